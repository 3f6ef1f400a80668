#!lua flags=allow-oom
-- Pauses a queue, or resumes it where until is empty. Claims look at it by server time.
-- KEYS meta
-- ARGV now, queue, for (ms, 0 = until resumed, '' = resume), reason, who
-- Returns {now, seq, until (ms; 0 = until resumed; -1 = not paused)}
-- Invariants: INV-6
--- include gate
--- include journal
--- include ready
local queue = ARGV[2]
local till = -1
if ARGV[3] == '' then
  redis.call('HDEL', k_pause, queue)
  redis.call('HDEL', k_pausewhy, queue)
  journal('K', now, 'pause', queue, '')
  ring(queue)
else
  till = tonumber(ARGV[3])
  if till > 0 then till = now + till end
  local why = cjson.encode({['until'] = till, since = now, reason = ARGV[4], who = ARGV[5]})
  redis.call('SADD', k_queues, queue)
  redis.call('HSET', k_pause, queue, till)
  redis.call('HSET', k_pausewhy, queue, why)
  journal('K', now, 'pause', queue, why)
end
flush_journal()
return {now, seq, till}
