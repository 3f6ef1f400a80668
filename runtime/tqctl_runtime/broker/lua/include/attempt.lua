-- The end of an attempt reported by the worker that holds it: new state, counts, one journal row.
local function end_attempt(worker, item, line)
  local id, outcome, since, delay = item[1], item[3], item[4], item[5]
  local state, reason, detail = S_SUCCEEDED, item[8], item[9]
  local has_started = since >= 0 or line[STATE] == S_RUNNING
  if has_started and line[STATE] ~= S_RUNNING then
    line[ATTEMPTS], line[STARTED] = line[ATTEMPTS] + 1, now - since
  end
  line[V] = line[V] + 1
  if outcome == O_SUCCEEDED then
    finalise(id, line, S_SUCCEEDED, detail)
  elseif outcome == O_CANCELLED then
    local asked = line[CANCEL] == 1 and redis.call('HGET', k_cancel, id)
    finalise(id, line, S_CANCELLED, detail)
    state, reason = S_CANCELLED, asked or reason
  elseif outcome == O_REJECTED then
    finalise(id, line, S_DEAD, detail)
    state, reason = S_DEAD, 'rejected'
  elseif outcome == O_DIED then
    state, reason = die(id, line)
  elseif outcome == O_INTERRUPTED or outcome == O_RELEASED then
    local why
    if delay > 0 and line[CANCEL] == 0 then
      state, line[STATE], line[HELD], line[DUE] = S_SCHEDULED, S_SCHEDULED, 0, now + delay
      redis.call('ZADD', k_sched, line[DUE], id)
    else
      state, why = requeue(id, line, item[7])
    end
    if why and why ~= '' then reason = why end
  else
    local why
    state, why = fail(id, line, item[6], delay, detail)
    if why ~= '' then reason = why end
  end
  if has_started then
    journal('F', now, id, line[V], outcome, state, line[ATTEMPTS], worker, line[STARTED], line[FAILURES],
      line[DEATHS], line[DUE], reason, detail)
  else
    journal('T', now, id, line[V], state, line[DUE], reason, '')
  end
end
