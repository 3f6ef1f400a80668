#!lua flags=allow-oom
-- Drops keys of a closed namespace before it is built anew; at last what meta tells of the old journal.
-- KEYS meta
-- ARGV now, term, 1 = the last call, names of keys
-- Returns {now, keys dropped}
-- Invariants: INV-4 INV-11
--- include mending
local dropped = 0
for at = 4, #ARGV do
  local key = ARGV[at]
  if key ~= k_meta then dropped = dropped + redis.call('UNLINK', key) end
end
if ARGV[3] == '1' then
  for _, field in ipairs(redis.call('HKEYS', k_meta)) do
    if field ~= 'pairing' and not string.match(field, '^repair_') then redis.call('HDEL', k_meta, field) end
  end
  redis.call('HDEL', k_meta, 'repair_from')
  redis.call('HSET', k_meta, 'layout', LINE_LAYOUT, 'seq', 0, 'rows', 0, 'bytes', 0)
end
return {now, dropped}
