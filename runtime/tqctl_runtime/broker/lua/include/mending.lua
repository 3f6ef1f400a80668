-- Only the present repair works on a closed namespace: ARGV[2] is its term. Sets what the gate sets of an open one, and
-- counts as its sign of life.
--- include clock
local meta = redis.call('HMGET', k_meta, 'epoch', 'layout', 'seq', 'rows', 'bytes', 'fence', 'repair_term',
  'repair_epoch')
if meta[1] or meta[7] ~= ARGV[2] then
  return redis.error_reply('NOTLEADER the repair of term ' .. ARGV[2] .. ' is over')
end
local epoch = meta[8]
redis.call('HSET', k_meta, 'repair_at', now)
