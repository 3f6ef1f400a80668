#!lua flags=allow-oom
-- Pauses a queue, or resumes it. Claims look at it by server time; pauses that ran out are taken away on the way.
-- KEYS meta
-- ARGV now, queue, for (ms, 0 = until resumed, '' = resume), reason, who
-- Returns {now, seq, until (ms; 0 = until resumed; -1 = resumed; -2 = it was not paused)}
-- Invariants: INV-6
--- include gate
--- include journal
--- include ready
local queue = ARGV[2]

local function go_on(name)
  redis.call('HDEL', k_pause, name)
  redis.call('HDEL', k_pausewhy, name)
  journal('K', now, 'pause', name, '')
  -- The bell of a queue where nothing waits would stay for ever.
  if redis.call('ZCARD', k_ready(name)) + redis.call('ZCARD', k_suspects(name)) > 0 then ring(name) end
end

local till = -1
if ARGV[3] ~= '' then
  till = tonumber(ARGV[3])
  if till > 0 then till = now + till end
  local why = cjson.encode({['until'] = till, since = now, reason = ARGV[4], who = ARGV[5]})
  redis.call('HSET', k_pause, queue, till)
  redis.call('HSET', k_pausewhy, queue, why)
  journal('K', now, 'pause', queue, why)
elseif redis.call('HEXISTS', k_pause, queue) == 1 then
  go_on(queue)
else
  till = -2
end
local paused = redis.call('HGETALL', k_pause)
for at = 1, #paused, 2 do
  if paused[at + 1] ~= '0' and tonumber(paused[at + 1]) <= now then go_on(paused[at]) end
end
flush_journal()
return {now, seq, till}
