#!lua flags=allow-oom
-- Puts tasks that have not ended back into a closed namespace, in their first version of the new epoch. What ran is
-- queued again, with its attempt interrupted and nothing counted; a cancel request comes true at once.
-- KEYS meta
-- ARGV now, term, reason, tasks: msgpack [[id, state, queue, priority, max retries, failures, deaths, attempts, created,
--   scheduled, expires, started, worker, is_cancel_requested, its reason, key, fingerprint, envelope]...]
-- Returns {now, tasks put back; one that is there already, from a call whose reply was lost, is not counted}
-- Invariants: INV-3 INV-4 INV-6 INV-7 INV-8
--- include mending
--- include line
--- include journal
--- include ready
--- include final
local tasks = cmsgpack.unpack(ARGV[4])
local ids, envelopes = {}, {}
for index, task in ipairs(tasks) do ids[index] = task[1] end
local there = redis.call('HMGET', k_st, unpack(ids))

-- An idempotency key may belong to a later task by now; then this one goes on without it.
local function take_key(id, name, fingerprint)
  if name == '' then return '' end
  local key = k_idem(name)
  return redis.call('SET', key, id .. ' ' .. fingerprint, 'NX') and name or ''
end

-- The state it comes back in and why.
local function stand(id, line, task)
  if task[14] == 1 then
    finalise(id, line, S_CANCELLED)
    return S_CANCELLED, task[15]
  end
  if line[STATE] == S_SCHEDULED or line[STATE] == S_RETRYING then
    line[DUE] = task[10]
    redis.call('ZADD', k_sched, line[DUE], id)
    return line[STATE], ARGV[3]
  end
  enqueue(id, line)
  return S_QUEUED, ARGV[3]
end

local function put_back(task)
  local id, was, queue, deaths, attempts, expires = task[1], task[2], task[3], task[7], task[8], task[11]
  local line = {LINE_LAYOUT, was, 1, task[4], task[5], task[6], deaths, attempts, task[9], math.max(task[9], task[10]),
    expires, 0, 0, 0, deaths > 0 and 1 or 0, 0, 0, queue, '', take_key(id, task[16], task[17])}
  local state, reason = stand(id, line, task)
  if expires > 0 and attempts == 0 and state ~= S_CANCELLED then redis.call('ZADD', k_exp, expires, id) end
  if was == S_RUNNING and attempts > 0 then
    journal('F', now, id, 1, O_INTERRUPTED, state, attempts, task[13], task[12], task[6], deaths, 0, reason, '')
  else
    journal('T', now, id, 1, state, line[DUE], reason, '')
  end
  write_line(id, line)
  envelopes[#envelopes + 1], envelopes[#envelopes + 2] = id, task[18]
end

local count = 0
for index, task in ipairs(tasks) do
  if not there[index] then
    put_back(task)
    count = count + 1
  end
end
flush_lines()
if count > 0 then redis.call('HSET', k_env, unpack(envelopes)) end
flush_journal()
return {now, count}
