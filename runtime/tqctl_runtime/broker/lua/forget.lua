#!lua flags=allow-oom
-- Drops final tasks that are recorded in this very version; a tombstone answers for them for an hour.
-- A watched one stays for the wait time after its end.
-- KEYS meta
-- ARGV now, role, term, wait time (ms), then id, v ...
-- Returns {now, ids that must stay for now ...}
-- Invariants: INV-4 INV-5 INV-11
--- include gate
--- include leader
--- include line
local TOMB_MS = 3600000
local reply, gone = {now}, {}
for at = 5, #ARGV, 2 do
  local id = ARGV[at]
  local line = read_line(id)
  if line and is_final(line) and line[V] == tonumber(ARGV[at + 1]) then
    local ended = line[WATCHED]
    -- An end in the future was told before the clock was set back.
    if ended > 1 and ended <= now and ended > now - tonumber(ARGV[4]) then
      reply[#reply + 1] = id
    else
      gone[#gone + 1] = id
      if ended ~= 0 then redis.call('HDEL', k_res, id) end
      redis.call('SET', k_tomb(id), string.format('%s %.0f %.0f %s', epoch, line[V], line[STATE], line[TOKEN]),
        'PX', TOMB_MS)
    end
  end
end
if #gone > 0 then
  redis.call('HDEL', k_st, unpack(gone))
  redis.call('HDEL', k_env, unpack(gone))
end
return reply
