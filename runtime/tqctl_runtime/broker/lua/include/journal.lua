-- The journal: rows are collected and written as stream entries of at most 256 KiB, numbered without gaps.
-- A row larger than that is an entry of its own.
local ENTRY_BYTES = 262144
local seq = tonumber(meta[3] or '0')
local journal_rows, journal_bytes = tonumber(meta[4] or '0'), tonumber(meta[5] or '0')
local fence = tonumber(meta[6] or '0')
local row_buffer, row_bytes = {}, 0

local function write_entry()
  if #row_buffer == 0 then return end
  seq = seq + 1
  redis.call('XADD', k_journal, '*', 'e', epoch, 's', seq, 'r', table.concat(row_buffer))
  journal_rows = journal_rows + #row_buffer
  journal_bytes = journal_bytes + row_bytes
  row_buffer, row_bytes = {}, 0
end

local function journal_row(row)
  if row_bytes + #row > ENTRY_BYTES then write_entry() end
  row_buffer[#row_buffer + 1] = row
  row_bytes = row_bytes + #row
end

local function journal(...)
  journal_row(cmsgpack.pack({...}))
end

local function flush_journal()
  write_entry()
  redis.call('HSET', k_meta, 'seq', seq, 'rows', journal_rows, 'bytes', journal_bytes, 'fence', fence)
end
