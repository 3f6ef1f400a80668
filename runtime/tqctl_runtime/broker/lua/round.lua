#!lua flags=allow-oom
-- One round of a worker's lane: names the attempts that started, reports those that ended, claims the next tasks.
-- A repeated request number answers as before; claimed tasks come back only where the token still owns them.
-- KEYS meta
-- ARGV now, worker, request number, places (tasks to claim at most), suspects (1: may claim one suspect),
--   started: msgpack [[id, token, ms ago]...],
--   finished: msgpack [[id, token, outcome, ms since start or -1, delay ms, is_last, is_suspect, reason, detail]...],
--   queues in the order to look
-- Returns {now, seq, token, codes of finished: {1 done, 2 already, 0 stale}, claimed:
--   {id, envelope, failures, deaths, attempts, queue, priority, created, is_suspect, is_cancelled ...}}
-- Invariants: INV-2 INV-3 INV-4 INV-5 INV-8
--- include gate
--- include pressure
--- include line
--- include journal
--- include ready
--- include final
--- include outcome
--- include claim
--- include attempt
local worker, request = ARGV[2], tonumber(ARGV[3])
local slot = redis.call('GET', k_slot(worker))
slot = slot and cmsgpack.unpack(slot)
if slot and request < slot[1] then
  return redis.error_reply('OLDREQUEST ' .. ARGV[3] .. ' was answered before request ' .. slot[1])
end
if slot and request == slot[1] then
  return {now, seq, slot[2], slot[3], still_owned(slot[4], slot[2])}
end

local function owned_line(id, token)
  local line = read_line(id)
  if line and line[TOKEN] == token then return line, line[HELD] == 1 end
end

local function start(id, line, ago)
  if line[STATE] == S_RUNNING then return end
  line[STATE], line[V], line[ATTEMPTS] = S_RUNNING, line[V] + 1, line[ATTEMPTS] + 1
  line[STARTED] = now - ago
  journal('R', now, id, line[V], line[ATTEMPTS], worker, line[STARTED])
end

for _, item in ipairs(cmsgpack.unpack(ARGV[6])) do
  local line, is_held = owned_line(item[1], item[2])
  if is_held then
    start(item[1], line, item[3])
    write_line(item[1], line)
  end
end
flush_lines()

local codes, gone = {}, {}
for _, item in ipairs(cmsgpack.unpack(ARGV[7])) do
  local id = item[1]
  local line, is_held = owned_line(id, item[2])
  if not line then
    local tomb = redis.call('GET', k_tomb(id))
    local was_ours = tomb and string.sub(tomb, -#item[2]) == item[2]
    codes[#codes + 1] = was_ours and 2 or 0
    if not was_ours then redis.call('HINCRBY', k_stat, 'stale', 1) end
  elseif not is_held then
    codes[#codes + 1] = 2
  else
    end_attempt(worker, item, line)
    write_line(id, line)
    gone[#gone + 1] = id
    codes[#codes + 1] = 1
  end
end
flush_lines()
if #gone > 0 then redis.call('HDEL', k_own(worker), unpack(gone)) end

local token, claimed = '', {}
local places = tonumber(ARGV[4])
if places > 0 and not is_stopped and redis.call('ZSCORE', k_leases, worker) then
  fence = fence + 1
  token = string.format('%s-%.0f-%s-%s', epoch, fence, worker, ARGV[3])
  claimed = claim(worker, token, places, ARGV[5] == '1', 8)
end
flush_journal()
local ids = {}
for index = 1, #claimed, 10 do ids[#ids + 1] = claimed[index] end
redis.call('SET', k_slot(worker), cmsgpack.pack({request, token, codes, ids}), 'PX', 3600000)
return {now, seq, token, codes, claimed}
