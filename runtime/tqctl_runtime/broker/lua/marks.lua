#!lua flags=allow-oom
-- The leader writes the marks of back-pressure and whether memory is short.
-- KEYS meta
-- ARGV now, role, term, busy rows, busy bytes, stop rows, stop bytes, memory busy (0 or 1)
-- Returns {now, epoch, journal's seq}
-- Invariants: INV-12
--- include gate
--- include leader
redis.call('HSET', k_meta, 'busy_rows', ARGV[4], 'busy_bytes', ARGV[5], 'stop_rows', ARGV[6], 'stop_bytes', ARGV[7],
  'memory_busy', ARGV[8])
return {now, tonumber(epoch), tonumber(meta[3] or '0')}
