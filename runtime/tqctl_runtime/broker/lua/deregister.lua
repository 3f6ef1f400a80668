#!lua flags=allow-oom
-- A worker leaves: what it still owns is released uncounted.
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
local owned = redis.call('HKEYS', k_own(worker))
for _, id in ipairs(owned) do
  local line = read_line(id)
  if line and line[HELD] == 1 then
    redis.call('HDEL', k_prog, id)
    end_attempt(worker, {id, '', O_RELEASED, -1, 0, false, false, 'worker left', ''}, line)
    write_line(id, line)
  end
end
flush_lines()
local info = redis.call('HGET', k_workers, worker) or '{}'
redis.call('DEL', k_own(worker), k_slot(worker))
redis.call('ZREM', k_leases, worker)
redis.call('HDEL', k_workers, worker)
redis.call('HDEL', k_wlive, worker)
journal('W', now, worker, 'gone', info)
flush_journal()
return {now, #owned}
