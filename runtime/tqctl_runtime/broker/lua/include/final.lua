-- The end of a task: its idempotency key starts to run out, its waiters hear of it, its live extras go.
-- Once recorded it is forgotten by forget.lua.
local IDEMPOTENCY_MS = 86400000

local function finalise(id, line, state, detail)
  line[STATE], line[HELD], line[DUE] = state, 0, 0
  if line[IDEM] ~= '' then redis.call('PEXPIRE', k_idem(line[IDEM]), IDEMPOTENCY_MS) end
  if line[EXPIRES] > 0 then redis.call('ZREM', k_exp, id) end
  if line[CANCEL] == 1 then redis.call('HDEL', k_cancel, id) end
  if line[WATCHED] ~= 0 then
    line[WATCHED] = now
    redis.call('HSET', k_res, id, detail or '')
    redis.call('PUBLISH', PREFIX .. 'done:' .. id, state)
  end
end
