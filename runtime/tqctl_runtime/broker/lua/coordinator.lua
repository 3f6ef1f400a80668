#!lua flags=allow-oom
-- A coordinator's sign of life (info '' = it leaves); those silent for a minute are dropped.
-- KEYS meta
-- ARGV now, coordinator id, info (JSON with at = ms)
-- Returns {now}
-- Invariants: INV-5
--- include gate
local SILENT_MS = 60000
if ARGV[3] == '' then
  redis.call('HDEL', k_coordinators, ARGV[2])
else
  redis.call('HSET', k_coordinators, ARGV[2], string.format('%.0f ', now) .. ARGV[3])
end
local all = redis.call('HGETALL', k_coordinators)
for index = 1, #all, 2 do
  if tonumber(string.match(all[index + 1], '^%d+')) < now - SILENT_MS then
    redis.call('HDEL', k_coordinators, all[index])
  end
end
return {now}
