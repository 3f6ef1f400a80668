#!lua flags=allow-oom
-- The recorder tells what is committed, and trims the journal to a minute behind it.
-- KEYS meta
-- ARGV now, role, term, recorded epoch, recorded seq, stream id, rows, bytes, keep (ms), numbers in quarantine
-- Returns {now, journal's seq, entries left}
-- Invariants: INV-4
--- include gate
--- include leader
if ARGV[4] ~= epoch or tonumber(ARGV[5]) > tonumber(meta[3] or '0') then
  return redis.error_reply('WENTBACK the journal ends at ' .. (meta[3] or '0') .. ' of epoch ' .. epoch .. ', '
    .. ARGV[5] .. ' of epoch ' .. ARGV[4] .. ' is recorded')
end
local before = redis.call('HMGET', k_wm, 'epoch', 'seq', 'moved')
local is_here = before[1] == ARGV[4] and before[2] == ARGV[5] and before[3]
redis.call('HSET', k_wm, 'epoch', ARGV[4], 'seq', ARGV[5], 'sid', ARGV[6], 'rows', ARGV[7], 'bytes', ARGV[8], 'at', now,
  'moved', is_here or now, 'quarantined', ARGV[10])
local stamp = tonumber(string.match(ARGV[6], '^(%d+)%-'))
if stamp then
  redis.call('XTRIM', k_journal, 'MINID', string.format('%.0f-0', math.max(stamp - tonumber(ARGV[9]), 0)))
end
redis.call('PUBLISH', PREFIX .. 'wm', ARGV[4] .. ' ' .. ARGV[5])
return {now, tonumber(meta[3] or '0'), redis.call('XLEN', k_journal)}
