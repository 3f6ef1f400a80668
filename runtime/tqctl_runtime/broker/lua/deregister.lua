#!lua flags=allow-oom
-- A worker leaves: what it still owns is released uncounted. One that was reaped already has nothing to leave.
-- KEYS meta
-- ARGV now, worker
-- Returns {now, number of released tasks}
-- Invariants: INV-5
--- include gate
--- include line
--- include journal
--- include ready
--- include final
--- include outcome
--- include attempt
local worker = ARGV[2]
if not redis.call('ZSCORE', k_leases, worker) then return {now, 0} end
local owned = redis.call('HKEYS', k_own(worker))
for _, id in ipairs(owned) do take_away(worker, id, 'worker left') end
flush_lines()
local info = redis.call('HGET', k_workers, worker) or '{}'
redis.call('DEL', k_own(worker), k_slot(worker))
redis.call('ZREM', k_leases, worker)
redis.call('HDEL', k_workers, worker)
redis.call('HDEL', k_wlive, worker)
journal('W', now, worker, 'gone', info)
flush_journal()
return {now, #owned}
