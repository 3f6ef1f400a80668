-- The start of attempts that a worker names: each is counted once, and only while its token holds.
local function owned_lines(items)
  if #items == 0 then return {} end
  local ids = {}
  for index, item in ipairs(items) do ids[index] = item[1] end
  return redis.call('HMGET', k_st, unpack(ids))
end

local function begin_attempts(worker, begun)
  local has_begun = {}
  for index, raw in ipairs(owned_lines(begun)) do
    local item, line = begun[index], decode_line(raw)
    local is_held = line and line[TOKEN] == item[2] and line[HELD] == 1
    if is_held and line[STATE] ~= S_RUNNING and not has_begun[item[1]] then
      has_begun[item[1]] = true
      line[STATE], line[V], line[ATTEMPTS] = S_RUNNING, line[V] + 1, line[ATTEMPTS] + 1
      line[STARTED] = now - item[3]
      journal('R', now, item[1], line[V], line[ATTEMPTS], worker, line[STARTED])
      write_line(item[1], line)
    end
  end
  flush_lines()
end
