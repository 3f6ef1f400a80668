#!lua
-- Accepts up to 1,000 tasks. Each gets exactly one life: an id, idempotency key or unique window that is taken
-- answers with the first task instead.
-- KEYS meta
-- ARGV now (ms, 0 = server time), then for each task: head (msgpack array), envelope (opaque)
-- Returns {epoch, seq, recorder's last sign (ms), now, seq before this call, code, id, code, id ...}
--   codes: state number 1..3 accepted; -1 the id is known; -2 idempotency key or unique window: id is the first task's;
--   -3 the idempotency key belongs to other work. Error BUSY <retry ms> <why>: nothing was queued, now or by an
--   earlier call whose reply was lost: a call of only known tasks is answered.
-- Invariants: INV-1 INV-4 INV-7
--- include gate
--- include pressure
--- include line
--- include journal
--- include submitted
--- include ready
--- include earlier
local reply = {epoch, 0, mark[3] or '0', now, seq}
local envelopes, ready = {}, {}

for index, head in ipairs(is_busy and heads or {}) do
  if not earlier(index, head) then
    local why = is_short and 'memory of the server is short' or 'the record is ' .. behind_rows .. ' rows behind'
    return redis.error_reply('BUSY 1000 ' .. why)
  end
end

local function stand(index, id, queue, priority, due)
  if due > 0 then
    redis.call('ZADD', k_sched, due, id)
    return S_SCHEDULED
  end
  local scores = ready[queue]
  if not scores then
    scores = {}
    ready[queue] = scores
  end
  local at = #scores
  scores[at + 1], scores[at + 2] = now + (index - 1) / 1024 - priority * PRIORITY_BAND, id
  return S_QUEUED
end

local function create(index, head)
  local id, queue, priority, max, due, expires = head[1], head[2], head[3], head[4], head[6], head[8]
  local idem, env = head[10] or '', ARGV[2 * index + 1]
  if head[5] > 0 then due = now + head[5] end
  if due <= now then due = 0 end
  if head[7] > 0 then expires = math.max(due, now) + head[7] end
  local state = stand(index, id, queue, priority, due)
  if expires > 0 then redis.call('ZADD', k_exp, expires, id) end
  if head[10] then redis.call('SET', k_idem(head[10]), id .. ' ' .. head[11]) end
  if head[12] then redis.call('SET', k_unique(head[12]), id, 'PX', head[13]) end
  seen[id] = true
  write_first(id, state, priority, max, due, expires, head[9] and 1 or 0, queue, idem)
  local at = #envelopes
  envelopes[at + 1], envelopes[at + 2] = id, env
  journal_submitted(id, state, queue, priority, max, due, expires, idem, head[11], env)
  return state
end

for index, head in ipairs(heads) do
  local code, id = earlier(index, head)
  if not code then code, id = create(index, head), head[1] end
  reply[2 * index + 4], reply[2 * index + 5] = code, id
end
flush_lines()
if #envelopes > 0 then redis.call('HSET', k_env, unpack(envelopes)) end
for queue, scores in pairs(ready) do
  redis.call('ZADD', k_ready(queue), unpack(scores))
  stand_in_line(queue)
end
flush_journal()
reply[2] = seq
return reply
