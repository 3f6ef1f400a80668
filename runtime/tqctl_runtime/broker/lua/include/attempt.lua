-- The end of an attempt reported by the worker that holds it: new state, counts, one journal row.
local function settle(id, line, item)
  local outcome, delay, detail = item[3], item[5], item[9]
  if outcome == O_SUCCEEDED then
    finalise(id, line, S_SUCCEEDED, detail)
    return S_SUCCEEDED, ''
  end
  if outcome == O_CANCELLED then return cancelled(id, line, detail) end
  if outcome == O_REJECTED then return reject(id, line, detail) end
  if outcome == O_DIED then return die(id, line, detail) end
  if outcome == O_INTERRUPTED or outcome == O_RELEASED then return requeue(id, line, item[7], delay, detail) end
  return fail(id, line, item[6], delay, detail)
end

local function end_attempt(worker, item, line)
  local id, outcome, since = item[1], item[3], item[4]
  -- Only these can end without a start; any other outcome is an attempt, also where its start was not seen.
  local may_be_unstarted = outcome == O_RELEASED or outcome == O_INTERRUPTED or outcome == O_CANCELLED
  local has_started = since >= 0 or line[STATE] == S_RUNNING or not may_be_unstarted
  if has_started and line[STATE] ~= S_RUNNING then
    line[ATTEMPTS], line[STARTED] = line[ATTEMPTS] + 1, now - math.max(since, 0)
  end
  line[V] = line[V] + 1
  local state, reason = settle(id, line, item)
  if reason == '' then reason = item[8] end
  if has_started then
    journal('F', now, id, line[V], outcome, state, line[ATTEMPTS], worker, line[STARTED], line[FAILURES],
      line[DEATHS], line[DUE], reason, item[9])
  else
    journal('T', now, id, line[V], state, line[DUE], reason, '')
  end
end

-- Takes a held task from a worker that did not report an end: nothing counts, and its token is worth nothing any more.
local function take_away(worker, id, reason)
  local line = read_line(id)
  redis.call('HDEL', k_prog, id)
  if line and line[HELD] == 1 then
    end_attempt(worker, {id, '', O_RELEASED, -1, 0, false, false, reason, ''}, line)
    line[TOKEN] = ''
    write_line(id, line)
  end
end
