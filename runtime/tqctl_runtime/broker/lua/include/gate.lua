-- The gate: every operation starts here. Sets now (ms), epoch, meta; refuses a namespace that is not open.
--- include clock
local meta = redis.call('HMGET', k_meta, 'epoch', 'layout', 'seq', 'rows', 'bytes', 'fence', 'busy_rows', 'busy_bytes',
  'stop_rows', 'stop_bytes', 'memory_busy')
if not meta[1] then
  return redis.error_reply('NOEPOCH the namespace is not open')
end
if tonumber(meta[2]) ~= LINE_LAYOUT then
  return redis.error_reply('LAYOUT the namespace has line layout ' .. tostring(meta[2]) .. ', not ' .. LINE_LAYOUT)
end
local epoch = meta[1]
