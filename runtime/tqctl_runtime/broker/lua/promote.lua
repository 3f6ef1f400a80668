#!lua flags=allow-oom
-- Due tasks become queued; tasks that were not started in time expire.
-- KEYS meta
-- ARGV now, role, term, limit
-- Returns {now, tasks moved, tasks looked at}
-- Invariants: INV-1 INV-9
--- include gate
--- include leader
--- include line
--- include journal
--- include ready
--- include final
local limit = tonumber(ARGV[4])
local moved = 0
local due = redis.call('ZRANGEBYSCORE', k_sched, '-inf', now, 'LIMIT', 0, limit)
for _, id in ipairs(due) do
  redis.call('ZREM', k_sched, id)
  local line = read_line(id)
  if line and (line[STATE] == S_SCHEDULED or line[STATE] == S_RETRYING) then
    line[V], line[BASE] = line[V] + 1, line[DUE]
    enqueue(id, line)
    journal('T', now, id, line[V], S_QUEUED, 0, 'due', '')
    write_line(id, line)
    moved = moved + 1
  end
end
flush_lines()
local late = redis.call('ZRANGEBYSCORE', k_exp, '-inf', now, 'LIMIT', 0, limit)
for _, id in ipairs(late) do
  redis.call('ZREM', k_exp, id)
  local line = read_line(id)
  local waits = line and line[HELD] == 0 and line[ATTEMPTS] == 0 and not is_final(line)
  if waits and line[EXPIRES] > 0 and line[EXPIRES] <= now then
    redis.call('ZREM', ready_key(line), id)
    redis.call('ZREM', k_sched, id)
    line[V] = line[V] + 1
    finalise(id, line, S_EXPIRED)
    journal('T', now, id, line[V], S_EXPIRED, 0, 'not started in time', '')
    write_line(id, line)
    moved = moved + 1
  end
end
flush_lines()
flush_journal()
return {now, moved, #due + #late}
