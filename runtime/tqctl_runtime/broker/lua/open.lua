#!lua flags=allow-oom
-- Opens a namespace that has no epoch; answers with the one it has otherwise. One that a repair closed is opened by
-- that repair alone.
-- KEYS meta
-- ARGV now, epoch, pairing id, term of the repair or ''
-- Returns {epoch, pairing id, 1 = opened by this call}
-- Invariants: INV-4 INV-11
local held = redis.call('HMGET', k_meta, 'epoch', 'pairing', 'repair_term')
if held[1] then return {held[1], held[2], 0} end
if (held[3] or '') ~= ARGV[4] then
  return redis.error_reply('NOEPOCH the namespace is not open: it is being repaired')
end
if held[3] then
  redis.call('HDEL', k_meta, 'repair_term', 'repair_epoch', 'repair_at', 'repair_by', 'repair_since', 'repair_from')
else
  redis.call('HSET', k_meta, 'layout', LINE_LAYOUT, 'seq', 0, 'rows', 0, 'bytes', 0)
end
redis.call('HSET', k_meta, 'epoch', ARGV[2], 'pairing', ARGV[3])
return {ARGV[2], ARGV[3], 1}
