#!lua flags=allow-oom
-- Puts back into a closed namespace what is not a task: pauses, the catalogue, idempotency keys, unique windows
-- and tombstones of tasks that ended lately. A key or a window that a task holds already stays.
-- KEYS meta
-- ARGV now, term, pauses: msgpack [[queue, until, why]...], catalogue: [[handler, row]...],
--   keys: [[key, task, fingerprint, ms left]...], windows: [[fingerprint, task, ms left]...],
--   tombstones: [[task, epoch, v, state, ms left]...]
-- Returns {now, journal's seq}
-- Invariants: INV-6 INV-7
--- include mending
--- include journal
for _, pause in ipairs(cmsgpack.unpack(ARGV[3])) do
  redis.call('HSET', k_pause, pause[1], pause[2])
  redis.call('HSET', k_pausewhy, pause[1], pause[3])
  journal('K', now, 'pause', pause[1], pause[3])
end
for _, handler in ipairs(cmsgpack.unpack(ARGV[4])) do
  redis.call('HSET', k_catalogue, handler[1], handler[2])
  journal('K', now, 'handler', handler[1], handler[2])
end
for _, held in ipairs(cmsgpack.unpack(ARGV[5])) do
  local key = k_idem(held[1])
  redis.call('SET', key, held[2] .. ' ' .. held[3], 'PX', held[4], 'NX')
end
for _, window in ipairs(cmsgpack.unpack(ARGV[6])) do
  redis.call('SET', k_unique(window[1]), window[2], 'PX', window[3], 'NX')
end
for _, tomb in ipairs(cmsgpack.unpack(ARGV[7])) do
  local key = k_tomb(tomb[1])
  -- No token: whoever still reports that it ended is told that it is late.
  redis.call('SET', key, string.format('%.0f %.0f %.0f ', tomb[2], tomb[3], tomb[4]), 'PX', tomb[5])
end
flush_journal()
return {now, seq}
