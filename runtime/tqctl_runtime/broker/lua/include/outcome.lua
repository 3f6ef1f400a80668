-- What the end of an attempt means for its task. Returns the new state and the reason.
local function requeue(id, line, is_suspect)
  if line[CANCEL] == 1 then
    local reason = redis.call('HGET', k_cancel, id) or 'cancelled'
    finalise(id, line, S_CANCELLED)
    return S_CANCELLED, reason
  end
  if is_suspect then line[SUSPECT] = 1 end
  enqueue(id, line)
  return S_QUEUED, ''
end

local function die(id, line)
  line[DEATHS] = line[DEATHS] + 1
  if line[DEATHS] >= MAX_DEATHS and line[CANCEL] ~= 1 then
    finalise(id, line, S_DEAD)
    return S_DEAD, 'poison'
  end
  return requeue(id, line, true)
end

local function fail(id, line, is_last, delay, detail)
  line[FAILURES] = line[FAILURES] + 1
  if line[CANCEL] == 1 then
    local reason = redis.call('HGET', k_cancel, id) or 'cancelled'
    finalise(id, line, S_CANCELLED, detail)
    return S_CANCELLED, reason
  end
  if is_last or line[FAILURES] > line[MAX] then
    finalise(id, line, S_DEAD, detail)
    return S_DEAD, is_last and 'not retried' or 'retries used up'
  end
  line[STATE], line[HELD], line[DUE] = S_RETRYING, 0, now + delay
  redis.call('ZADD', k_sched, line[DUE], id)
  return S_RETRYING, ''
end
