-- Taking tasks out of the ready sets under one token. What a worker owns is kept with the number of the round that
-- claimed it (ARGV[3]) and when it was handed out last: a heartbeat is not asked about what its worker has not heard of.
-- Bytes of envelopes in one answer, which has to come in time whenever it is asked for (a larger task goes alone).
local room, chunk = 4194304, 64
local owned_since = string.format('%s %.0f', ARGV[3], now)

local function still_owned(worker, ids, token)
  local reply = {}
  for _, id in ipairs(ids) do
    local line = read_line(id)
    if line and line[TOKEN] == token and line[HELD] == 1 and line[STATE] == S_QUEUED then
      redis.call('HSET', k_own(worker), id, owned_since)
      for _, value in ipairs({id, redis.call('HGET', k_env, id), line[FAILURES], line[DEATHS], line[ATTEMPTS],
        line[QUEUE], line[PRIORITY], line[CREATED], line[SUSPECT], line[CANCEL]}) do
        reply[#reply + 1] = value
      end
    end
  end
  return reply
end

local function expire(id, line)
  line[V] = line[V] + 1
  finalise(id, line, S_EXPIRED)
  journal('T', now, id, line[V], S_EXPIRED, 0, 'not started in time', '')
  write_line(id, line)
end

local function take(worker, token, key, count, reply)
  local popped = redis.call('ZPOPMIN', key, count)
  if #popped == 0 then return 0 end
  local ids, owned = {}, {}
  for index = 1, #popped, 2 do ids[#ids + 1] = popped[index] end
  local raws = redis.call('HMGET', k_st, unpack(ids))
  local envelopes = redis.call('HMGET', k_env, unpack(ids))
  for index, id in ipairs(ids) do
    local line, size = decode_line(raws[index]), #(envelopes[index] or '')
    if size > room and #reply > 0 then
      room = -1
      redis.call('ZADD', key, popped[2 * index], id)
    elseif line and line[STATE] == S_QUEUED and line[HELD] == 0 then
      if line[EXPIRES] > 0 and line[EXPIRES] <= now and line[ATTEMPTS] == 0 then
        expire(id, line)
      else
        room = room - size
        line[HELD], line[TOKEN], line[STARTED] = 1, token, 0
        write_line(id, line)
        owned[#owned + 1], owned[#owned + 2] = id, owned_since
        for _, value in ipairs({id, envelopes[index], line[FAILURES], line[DEATHS], line[ATTEMPTS], line[QUEUE],
          line[PRIORITY], line[CREATED], line[SUSPECT], line[CANCEL]}) do
          reply[#reply + 1] = value
        end
      end
    end
  end
  flush_lines()
  if #owned > 0 then redis.call('HSET', k_own(worker), unpack(owned)) end
  return #owned / 2
end

local function claim(worker, token, places, wants_suspect, first)
  local reply, left = {}, math.min(places, 1000)
  for at = first, #ARGV do
    local queue = ARGV[at]
    if left > 0 and not is_paused(queue) then
      if wants_suspect and take(worker, token, k_suspects(queue), 1, reply) > 0 then
        left, wants_suspect = left - 1, false
      end
      local asked, got = 0, 0
      while left > 0 and room > 0 and asked == got do
        asked = math.min(left, chunk)
        got = take(worker, token, k_ready(queue), asked, reply)
        left = left - got
      end
      -- Also where places stayed free: what was popped may have expired.
      if redis.call('ZCARD', k_ready(queue)) > 0 then ring(queue) end
    end
  end
  return reply
end
