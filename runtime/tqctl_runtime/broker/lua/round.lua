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
--- include paused
--- include claim
--- include attempt
--- include begin
local worker, request = ARGV[2], tonumber(ARGV[3])
local slot = redis.call('GET', k_slot(worker))
slot = slot and cmsgpack.unpack(slot)
if slot and request < slot[1] then
  return redis.error_reply('OLDREQUEST ' .. ARGV[3] .. ' was answered before request ' .. slot[1])
end
if slot and request == slot[1] then
  return {now, seq, slot[2], slot[3], still_owned(worker, slot[4], slot[2])}
end

local begun, ended = cmsgpack.unpack(ARGV[6]), cmsgpack.unpack(ARGV[7])
begin_attempts(worker, begun)
local codes, gone, has_ended = {}, {}, {}
for index, raw in ipairs(owned_lines(ended)) do
  local item, line = ended[index], decode_line(raw)
  local id = item[1]
  if not line or line[TOKEN] ~= item[2] then
    local tomb = not line and redis.call('GET', k_tomb(id))
    codes[index] = tomb and string.match(tomb, ' (%S*)$') == item[2] and 2 or 0
    if codes[index] == 0 then
      redis.call('HINCRBY', k_stat, 'stale', 1)
      redis.call('HSET', k_stat, 'stale_at', now)
    end
  elseif line[HELD] == 0 or has_ended[id] then
    codes[index] = 2
  else
    has_ended[id] = true
    end_attempt(worker, item, line)
    write_line(id, line)
    gone[#gone + 1] = id
    codes[index] = 1
  end
end
flush_lines()
if #gone > 0 then
  redis.call('HDEL', k_own(worker), unpack(gone))
  redis.call('HDEL', k_prog, unpack(gone))
end

local token, claimed = '', {}
local places = tonumber(ARGV[4])
-- Under a lease that is over, a claim would be taken back at once as the task that may have killed its worker.
local leased_until = tonumber(redis.call('ZSCORE', k_leases, worker) or 0)
if places > 0 and not is_stopped and leased_until > now then
  fence = fence + 1
  token = string.format('%s-%.0f-%s-%s', epoch, fence, worker, ARGV[3])
  claimed = claim(worker, token, places, ARGV[5] == '1', 8)
end
flush_journal()
local ids = {}
for index = 1, #claimed, 10 do ids[#ids + 1] = claimed[index] end
redis.call('SET', k_slot(worker), cmsgpack.pack({request, token, codes, ids}), 'PX', 3600000)
return {now, seq, token, codes, claimed}
