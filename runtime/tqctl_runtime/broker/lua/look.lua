#!lua flags=no-writes
-- Live tasks as they are: line, envelope, progress, result.
-- KEYS meta
-- ARGV now, ids
-- Returns {now, epoch, line or '', envelope or '', progress or '', result or '', cancel reason or '', rank ... for each}
--   rank = number of tasks ahead of it in its queue, -1 where it does not stand in line
-- Invariants: none, it only reads
--- include gate
--- include line
local reply = {now, epoch}
for at = 2, #ARGV do
  local id = ARGV[at]
  local raw = redis.call('HGET', k_st, id)
  local rank = -1
  if raw then
    local line = decode_line(raw)
    local key = line[SUSPECT] == 1 and k_suspects(line[QUEUE]) or k_ready(line[QUEUE])
    rank = redis.call('ZRANK', key, id) or -1
  end
  for _, value in ipairs({raw or '', redis.call('HGET', k_env, id) or '', redis.call('HGET', k_prog, id) or '',
    redis.call('HGET', k_res, id) or '', redis.call('HGET', k_cancel, id) or '', rank}) do
    reply[#reply + 1] = value
  end
end
return reply
