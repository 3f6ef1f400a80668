#!lua flags=allow-oom
-- Renews a worker's lease and compares what it says it holds with what it owns.
-- What it owns by a round whose answer it has and does not list is released; what it lists but does not own is lost to
-- it. Of claims whose answer is on its way it cannot know: they stay until that answer would come too late.
-- KEYS meta
-- ARGV now, worker, lease (ms), live figures (JSON), held: msgpack [[id, token]...],
--   number of the last round whose answer it has
-- Returns {now, is_known (0: the lease was reaped, register under a new id), lost ids, cancelled {id, reason ...}}
-- Invariants: INV-2 INV-5
--- include gate
--- include line
--- include journal
--- include ready
--- include final
--- include outcome
--- include attempt
--- include live_log
-- Longer than a worker waits for an answer.
local UNHEARD_MS = 10000
local worker, lease, answered = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[6])
local lost, cancelled, listed = {}, {}, {}
local held = cmsgpack.unpack(ARGV[5])
if not redis.call('ZSCORE', k_leases, worker) then
  for _, item in ipairs(held) do lost[#lost + 1] = item[1] end
  return {now, 0, lost, cancelled}
end
redis.call('ZADD', k_leases, now + lease, worker)
redis.call('HSET', k_wlive, worker, ARGV[4])
redis.call('PEXPIRE', k_slot(worker), 3600000)
for _, item in ipairs(held) do
  local id = item[1]
  local line = read_line(id)
  listed[id] = true
  if not line or line[TOKEN] ~= item[2] or line[HELD] == 0 then
    lost[#lost + 1] = id
  else
    if line[STATE] == S_RUNNING then keep_log(id, now + lease) end
    if line[CANCEL] == 1 then
      cancelled[#cancelled + 1] = id
      cancelled[#cancelled + 1] = redis.call('HGET', k_cancel, id) or ''
    end
  end
end
local owned = redis.call('HGETALL', k_own(worker))
for index = 1, #owned, 2 do
  local id = owned[index]
  local request, at = string.match(owned[index + 1], '^(%d+) (%d+)$')
  local is_heard = tonumber(request) <= answered or tonumber(at) < now - math.max(lease, UNHEARD_MS)
  if is_heard and not listed[id] then
    redis.call('HDEL', k_own(worker), id)
    take_away(worker, id, 'owned but not held')
  end
end
flush_lines()
flush_journal()
return {now, 1, lost, cancelled}
