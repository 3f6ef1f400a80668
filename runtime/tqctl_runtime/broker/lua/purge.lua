#!lua flags=allow-oom
-- Cancels the queued tasks of a queue, a chunk a call. What workers already hold stays.
-- KEYS meta
-- ARGV now, queue, reason, who, limit
-- Returns {now, seq, tasks cancelled, tasks left}
-- Invariants: INV-1
--- include gate
--- include line
--- include journal
--- include ready
--- include final
local queue = ARGV[2]
local purged = 0
for _, key in ipairs({k_ready(queue), k_suspects(queue)}) do
  for _, id in ipairs(redis.call('ZRANGE', key, 0, tonumber(ARGV[5]) - 1)) do
    redis.call('ZREM', key, id)
    local line = read_line(id)
    if line and line[HELD] == 0 and line[STATE] == S_QUEUED then
      line[V] = line[V] + 1
      finalise(id, line, S_CANCELLED)
      journal('T', now, id, line[V], S_CANCELLED, 0, ARGV[3], ARGV[4])
      write_line(id, line)
      purged = purged + 1
    end
  end
end
flush_lines()
flush_journal()
return {now, seq, purged, redis.call('ZCARD', k_ready(queue)) + redis.call('ZCARD', k_suspects(queue))}
