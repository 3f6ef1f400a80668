-- Back-pressure: how far the record is behind, against the two marks in journal rows and bytes.
local mark = redis.call('HMGET', k_wm, 'rows', 'bytes', 'at')
local behind_rows = tonumber(meta[4] or '0') - tonumber(mark[1] or '0')
local behind_bytes = tonumber(meta[5] or '0') - tonumber(mark[2] or '0')

local function beyond(rows, bytes)
  return (rows and behind_rows >= tonumber(rows)) or (bytes and behind_bytes >= tonumber(bytes))
end

local is_short = meta[11] == '1'
local is_busy = beyond(meta[7], meta[8]) or is_short
local is_stopped = beyond(meta[9], meta[10])
