#!lua
-- Accepts up to 1,000 tasks. Each gets exactly one life: an id, idempotency key or unique window that is taken
-- answers with the first task instead.
-- KEYS meta
-- ARGV now (ms, 0 = server time), then for each task: head (msgpack array), envelope (opaque)
-- Returns {epoch, seq, recorder's last sign (ms), now, code, id, code, id ...}
--   codes: state number 1..3 accepted; -1 the id is known; -2 idempotency key or unique window: id is the first task's;
--   -3 the idempotency key belongs to other work. Error BUSY <retry ms> <why>: nothing was queued, now or by an
--   earlier call whose reply was lost: a call of only known tasks is answered.
-- Invariants: INV-1 INV-4 INV-7
--- include gate
--- include pressure
--- include line
--- include journal
--- include ready
--- include earlier
local reply = {epoch, 0, mark[3] or '0', now}
local envelopes, ready, known_queues = {}, {}, {}

for index, head in ipairs(is_busy and heads or {}) do
  if not earlier(index, head) then
    return redis.error_reply('BUSY 1000 the record is ' .. behind_rows .. ' rows behind, or memory is short')
  end
end

local function stand(index, id, line)
  if line[DUE] > 0 then
    line[STATE] = S_SCHEDULED
    redis.call('ZADD', k_sched, line[DUE], id)
    return
  end
  local queue = line[QUEUE]
  local scores = ready[queue] or {}
  ready[queue] = scores
  scores[#scores + 1] = line[BASE] + (index - 1) / 1024 - line[PRIORITY] * PRIORITY_BAND
  scores[#scores + 1] = id
end

local function create(index, head)
  local id, queue, due, expires = head[1], head[2], head[6], head[8]
  if head[5] > 0 then due = now + head[5] end
  if due <= now then due = 0 end
  if head[7] > 0 then expires = math.max(due, now) + head[7] end
  local line = new_line(S_QUEUED, 1, head[3], head[4], 0, due, expires, head[9] and 1 or 0, queue, head[10] or '')
  stand(index, id, line)
  if expires > 0 then redis.call('ZADD', k_exp, expires, id) end
  if head[10] then redis.call('SET', k_idem(head[10]), id .. ' ' .. head[11]) end
  if head[12] then redis.call('SET', k_unique(head[12]), id, 'PX', head[13]) end
  known_queues[queue], seen[id] = true, true
  write_line(id, line)
  envelopes[#envelopes + 1], envelopes[#envelopes + 2] = id, ARGV[2 * index + 1]
  journal('S', now, id, 1, line[STATE], queue, head[3], head[4], due, expires, line[IDEM], head[11],
    ARGV[2 * index + 1])
  return line[STATE]
end

for index, head in ipairs(heads) do
  local code, id = earlier(index, head)
  if not code then code, id = create(index, head), head[1] end
  reply[#reply + 1], reply[#reply + 2] = code, id
end
flush_lines()
if #envelopes > 0 then redis.call('HSET', k_env, unpack(envelopes)) end
for queue in pairs(known_queues) do redis.call('SADD', k_queues, queue) end
for queue, scores in pairs(ready) do
  redis.call('ZADD', k_ready(queue), unpack(scores))
  ring(queue)
end
flush_journal()
reply[2] = seq
return reply
