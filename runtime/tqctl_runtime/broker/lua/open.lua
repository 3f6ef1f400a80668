#!lua
-- Opens a namespace that has no epoch; answers with the one it has otherwise.
-- KEYS meta
-- ARGV now, epoch, pairing id
-- Returns {epoch, pairing id, 1 = opened by this call}
-- Invariants: INV-4
local held = redis.call('HMGET', k_meta, 'epoch', 'pairing')
if held[1] then return {held[1], held[2], 0} end
redis.call('HSET', k_meta, 'epoch', ARGV[2], 'pairing', ARGV[3], 'layout', LINE_LAYOUT, 'seq', 0, 'rows', 0, 'bytes', 0)
return {ARGV[2], ARGV[3], 1}
