#!lua flags=allow-oom
-- A coordinator's sign of life (info '' = it leaves); those silent for a minute are dropped, and so are the names of
-- queues in which nothing stands in line.
-- KEYS meta
-- ARGV now, coordinator id, info (JSON with at = ms)
-- Returns {now}
-- Invariants: INV-5
--- include gate
local SILENT_MS, LEASE_MS = 60000, 15000
if ARGV[3] == '' then
  redis.call('HDEL', k_coordinators, ARGV[2])
else
  redis.call('HSET', k_coordinators, ARGV[2], string.format('%.0f ', now) .. ARGV[3])
end
local all, is_left = redis.call('HGETALL', k_coordinators), true
for index = 1, #all, 2 do
  local seen_at = tonumber(string.match(all[index + 1], '^%d+'))
  if seen_at < now - SILENT_MS then redis.call('HDEL', k_coordinators, all[index]) end
  if seen_at >= now - LEASE_MS then is_left = false end
end
-- Nobody takes over: whoever submits need not wait for a record that nobody writes.
if is_left then redis.call('HSET', k_wm, 'at', 0) end
for _, queue in ipairs(redis.call('SMEMBERS', k_queues)) do
  if redis.call('ZCARD', k_ready(queue)) + redis.call('ZCARD', k_suspects(queue)) == 0 then
    redis.call('SREM', k_queues, queue)
  end
end
return {now}
