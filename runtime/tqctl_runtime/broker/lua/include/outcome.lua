-- What the end of an attempt means for its task. Each returns the new state and the reason ('' = none of its own).
local function cancelled(id, line, detail)
  local reason = line[CANCEL] == 1 and redis.call('HGET', k_cancel, id) or ''
  finalise(id, line, S_CANCELLED, detail)
  return S_CANCELLED, reason
end

local function requeue(id, line, is_suspect, delay, detail)
  if line[CANCEL] == 1 then return cancelled(id, line, detail) end
  if is_suspect then line[SUSPECT] = 1 end
  -- The sweep may have passed it while it was held.
  if line[EXPIRES] > 0 and line[ATTEMPTS] == 0 then redis.call('ZADD', k_exp, line[EXPIRES], id) end
  if delay > 0 then
    line[STATE], line[HELD], line[DUE] = S_SCHEDULED, 0, now + delay
    redis.call('ZADD', k_sched, line[DUE], id)
    return S_SCHEDULED, ''
  end
  enqueue(id, line)
  return S_QUEUED, ''
end

local function die(id, line, detail)
  line[DEATHS] = line[DEATHS] + 1
  if line[DEATHS] >= MAX_DEATHS and line[CANCEL] ~= 1 then
    finalise(id, line, S_DEAD, detail)
    return S_DEAD, 'poison'
  end
  return requeue(id, line, true, 0, detail)
end

local function reject(id, line, detail)
  if line[CANCEL] == 1 then return cancelled(id, line, detail) end
  finalise(id, line, S_DEAD, detail)
  return S_DEAD, 'rejected'
end

local function fail(id, line, is_last, delay, detail)
  line[FAILURES] = line[FAILURES] + 1
  if line[CANCEL] == 1 then return cancelled(id, line, detail) end
  if is_last or line[FAILURES] > line[MAX] then
    finalise(id, line, S_DEAD, detail)
    return S_DEAD, is_last and 'not retried' or 'retries used up'
  end
  line[STATE], line[HELD], line[DUE] = S_RETRYING, 0, now + delay
  redis.call('ZADD', k_sched, line[DUE], id)
  return S_RETRYING, ''
end
