-- Bringing a final task back to life, also one that was forgotten here.
-- A key that ran out may belong to a later task by now; then this one goes on without it.
local function hold_key(id, line, fingerprint)
  if line[IDEM] == '' then return end
  local key = k_idem(line[IDEM])
  local holder = redis.call('GET', key)
  if holder and string.match(holder, '^%S+') == id then
    redis.call('PERSIST', key)
  elseif not holder and fingerprint then
    redis.call('SET', key, id .. ' ' .. fingerprint)
  else
    line[IDEM] = ''
  end
end

local function is_outdated(id, told)
  local tomb = redis.call('GET', k_tomb(id))
  local at_epoch, v = string.match(tomb or '', '^(%d+) (%d+) ')
  return v and at_epoch == epoch and (tonumber(epoch) ~= told[1] or tonumber(v) > told[2])
end

local function requeue_reset(id, line, fingerprint)
  line[V], line[BASE] = line[V] + 1, now
  line[FAILURES], line[DEATHS], line[SUSPECT], line[CANCEL] = 0, 0, 0, 0
  line[EXPIRES], line[STARTED] = 0, 0
  if line[WATCHED] ~= 0 then line[WATCHED] = 1 end
  redis.call('HDEL', k_res, id)
  hold_key(id, line, fingerprint)
  enqueue(id, line)
  journal('O', now, id, line[V], S_QUEUED, 0, ARGV[2], ARGV[3])
  write_line(id, line)
end

local function revive(id, envelope, told)
  local v = told[1] == tonumber(epoch) and told[2] or 0
  local line = new_line(S_DEAD, v, told[5], told[6], told[3], 0, 0, 0, told[4], told[7])
  line[CREATED] = told[9]
  redis.call('HSET', k_env, id, envelope)
  redis.call('DEL', k_tomb(id))
  requeue_reset(id, line, told[8])
end
