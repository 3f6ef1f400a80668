-- The packed line of a task in st: the only reader and writer of its format.
local STATE, V, QUEUE, PRIORITY, MAX, FAILURES, DEATHS, ATTEMPTS = 2, 3, 4, 5, 6, 7, 8, 9
local CREATED, BASE, EXPIRES, DUE, TOKEN, HELD, STARTED, SUSPECT = 10, 11, 12, 13, 14, 15, 16, 17
local CANCEL, WATCHED, IDEM = 18, 19, 20
local lines_out = {}

local function decode_line(raw)
  if not raw then return nil end
  return cmsgpack.unpack(raw)
end

local function read_line(id)
  return decode_line(redis.call('HGET', k_st, id))
end

local function write_line(id, line)
  lines_out[#lines_out + 1] = id
  lines_out[#lines_out + 1] = cmsgpack.pack(line)
  if #lines_out >= 2000 then
    redis.call('HSET', k_st, unpack(lines_out))
    lines_out = {}
  end
end

local function flush_lines()
  if #lines_out > 0 then redis.call('HSET', k_st, unpack(lines_out)) end
  lines_out = {}
end

local function is_final(line)
  local state = line[STATE]
  return state == S_SUCCEEDED or state == S_DEAD or state == S_CANCELLED or state == S_EXPIRED
end
