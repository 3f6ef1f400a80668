#!lua flags=no-writes
-- How the namespace stands, open or not: what opening and repairing it is decided by.
-- KEYS meta
-- ARGV now, stream id of the record's checkpoint
-- Returns {now, epoch or '', pairing id or '', journal's seq, epoch before the repair or '', repair's term, its epoch,
--   its last sign of life (ms), greatest term of a leader, watermark's epoch, its seq, the recorder's last sign (ms),
--   1 = the checkpoint's entry is there, its epoch and seq (0 where none of ours), epoch and seq of the next entry of
--   ours (0 = none), tasks held, since when (ms) and by whom it is repaired}
-- Invariants: none, it only reads
--- include clock
local meta = redis.call('HMGET', k_meta, 'epoch', 'pairing', 'seq', 'repair_from', 'repair_term', 'repair_epoch',
  'repair_at', 'repair_since', 'repair_by')
local mark = redis.call('HMGET', k_wm, 'epoch', 'seq', 'at')

local function place(entry)
  local values = {}
  for at = 1, #entry[2], 2 do values[entry[2][at]] = entry[2][at + 1] end
  return tonumber(values.e) or 0, tonumber(values.s) or 0
end

local anchor = redis.call('XRANGE', k_journal, ARGV[2], ARGV[2])[1]
local anchor_epoch, anchor_seq = 0, 0
if anchor then anchor_epoch, anchor_seq = place(anchor) end

-- One by one, past what others may have written: an entry has up to 256 KiB.
local next_epoch, next_seq, after = 0, 0, ARGV[2]
repeat
  local entry = redis.call('XRANGE', k_journal, '(' .. after, '+', 'COUNT', 1)[1]
  if entry then
    after = entry[1]
    next_epoch, next_seq = place(entry)
  end
until not entry or next_seq > 0

local term = 0
local leads = redis.call('HVALS', k_lead)
for _, lead in ipairs(leads) do term = math.max(term, cmsgpack.unpack(lead)[2]) end
return {now, meta[1] or '', meta[2] or '', tonumber(meta[3] or '0'), meta[4] or '', tonumber(meta[5] or '0'),
  tonumber(meta[6] or '0'), tonumber(meta[7] or '0'), term, tonumber(mark[1] or '0'), tonumber(mark[2] or '0'),
  tonumber(mark[3] or '0'), anchor and 1 or 0, anchor_epoch, anchor_seq, next_epoch, next_seq, redis.call('HLEN', k_st),
  tonumber(meta[8] or '0'), meta[9] or ''}
