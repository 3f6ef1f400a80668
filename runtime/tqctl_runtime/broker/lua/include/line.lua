-- The packed line of a task in st: the only reader and writer of its format.
-- Fixed width first (layout state v priority max failures deaths attempts, then instants, flags), strings last.
local LINE_FORMAT = '>BBI4BHHHI4I8I8I8I8I8BBBI8sss'
local STATE, V, PRIORITY, MAX, FAILURES, DEATHS, ATTEMPTS = 2, 3, 4, 5, 6, 7, 8
local CREATED, BASE, EXPIRES, DUE, STARTED = 9, 10, 11, 12, 13
local HELD, SUSPECT, CANCEL, WATCHED, QUEUE, TOKEN, IDEM = 14, 15, 16, 17, 18, 19, 20
local lines_out = {}

local function write_raw(id, raw)
  local at = #lines_out
  lines_out[at + 1], lines_out[at + 2] = id, raw
  if at >= 1998 then
    redis.call('HSET', k_st, unpack(lines_out))
    lines_out = {}
  end
end

-- A task that was not there before, without the table of new_line.
local function write_first(id, state, priority, max, due, expires, watched, queue, idem)
  write_raw(id, struct.pack(LINE_FORMAT, LINE_LAYOUT, state, 1, priority, max, 0, 0, 0, now, due > 0 and due or now,
    expires, due, 0, 0, 0, 0, watched, queue, '', idem))
end

local function new_line(state, v, priority, max, attempts, due, expires, watched, queue, idem)
  return {LINE_LAYOUT, state, v, priority, max, 0, 0, attempts, now, due > now and due or now, expires, due, 0, 0, 0,
    0, watched, queue, '', idem}
end

local function decode_line(raw)
  if not raw then return nil end
  return {struct.unpack(LINE_FORMAT, raw)}
end

local function read_line(id)
  return decode_line(redis.call('HGET', k_st, id))
end

local function write_line(id, line)
  write_raw(id, struct.pack(LINE_FORMAT, unpack(line, 1, 20)))
end

local function flush_lines()
  if #lines_out > 0 then redis.call('HSET', k_st, unpack(lines_out)) end
  lines_out = {}
end

local function is_final(line)
  local state = line[STATE]
  return state == S_SUCCEEDED or state == S_DEAD or state == S_CANCELLED or state == S_EXPIRED
end
