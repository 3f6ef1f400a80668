#!lua flags=allow-oom
-- A worker joins under a fresh id: lease, registration, and its handlers into the catalogue.
-- KEYS meta
-- ARGV now, worker, lease (ms), info (JSON), then handler name, catalogue row (JSON) ...
-- Returns {now, seq}
-- Invariants: INV-6
--- include gate
--- include journal
local worker = ARGV[2]
redis.call('ZADD', k_leases, now + tonumber(ARGV[3]), worker)
redis.call('HSET', k_workers, worker, ARGV[4])
for at = 5, #ARGV, 2 do
  if redis.call('HGET', k_catalogue, ARGV[at]) ~= ARGV[at + 1] then
    redis.call('HSET', k_catalogue, ARGV[at], ARGV[at + 1])
    journal('K', now, 'handler', ARGV[at], ARGV[at + 1])
  end
end
journal('W', now, worker, 'live', ARGV[4])
flush_journal()
return {now, seq}
