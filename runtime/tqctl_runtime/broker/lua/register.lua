#!lua flags=allow-oom
-- A worker joins under a fresh id: lease, registration, and its handlers into the catalogue.
-- One that asks again is renewed if its lease stands, and unknown if not: an id that was reaped never comes back.
-- KEYS meta
-- ARGV now, worker, lease (ms), is_first, info (JSON), then handler name, catalogue row (JSON) ...
-- Returns {now, is_known}
-- Invariants: INV-2 INV-6
--- include gate
--- include journal
local worker = ARGV[2]
if ARGV[4] == '0' and not redis.call('ZSCORE', k_leases, worker) then return {now, 0} end
redis.call('ZADD', k_leases, now + tonumber(ARGV[3]), worker)
redis.call('HSET', k_workers, worker, ARGV[5])
for at = 6, #ARGV, 2 do
  if redis.call('HGET', k_catalogue, ARGV[at]) ~= ARGV[at + 1] then
    redis.call('HSET', k_catalogue, ARGV[at], ARGV[at + 1])
    journal('K', now, 'handler', ARGV[at], ARGV[at + 1])
  end
end
journal('W', now, worker, 'live', ARGV[5])
flush_journal()
return {now, 1}
