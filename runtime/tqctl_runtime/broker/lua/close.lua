#!lua flags=allow-oom
-- Closes the namespace for a repair, or gives a sign of life of the one that closed it: without an epoch every
-- operation but those of the repair is refused. A repair that gave no sign for long is followed by one of a later term.
-- KEYS meta
-- ARGV now, term, target epoch, epoch that was seen ('' = none), pairing id, silence (ms) of a repair that is dead,
--   id of the repair: a database that failed over may have given one term to two
-- Returns {now, 1 = closed by us, 0 = another repair is at work, or the epoch is not the one that was seen}
-- Invariants: INV-4 INV-11
--- include clock
local held = redis.call('HMGET', k_meta, 'epoch', 'repair_term', 'repair_at', 'repair_by')
if not held[2] then
  if (held[1] or '') ~= ARGV[4] then return {now, 0} end
elseif held[2] ~= ARGV[2] or held[4] ~= ARGV[7] then
  -- A sign from the future was given before the clock was set back.
  local is_alive = math.abs(now - tonumber(held[3])) < tonumber(ARGV[6])
  if is_alive or tonumber(held[2]) >= tonumber(ARGV[2]) then return {now, 0} end
end
if held[4] ~= ARGV[7] then redis.call('HSET', k_meta, 'repair_since', now) end
if held[1] then
  redis.call('HSET', k_meta, 'repair_from', held[1])
  redis.call('HDEL', k_meta, 'epoch')
end
redis.call('HSET', k_meta, 'repair_term', ARGV[2], 'repair_epoch', ARGV[3], 'repair_at', now, 'repair_by', ARGV[7],
  'pairing', ARGV[5])
return {now, 1}
