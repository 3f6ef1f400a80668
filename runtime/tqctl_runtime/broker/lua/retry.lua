#!lua
-- An operator's retry: scheduled and retrying tasks run now; final ones but succeeded run again under the same id with
-- failures and deaths reset. A task that was forgotten comes with what SQL knows of it.
-- KEYS meta
-- ARGV now, reason, who, then for each task: id, envelope or '', known: msgpack [epoch, v, attempts, queue, priority,
--   max retries, idempotency key, fingerprint] or ''
-- Returns {now, seq, code for each: 1 queued, 3 not in a state that permits it, 0 not live: give envelope and known}
-- Invariants: INV-1 INV-3
--- include gate
--- include line
--- include journal
--- include ready
local reply = {now, 0}

local function requeue_reset(id, line)
  line[V], line[BASE] = line[V] + 1, now
  line[FAILURES], line[DEATHS], line[SUSPECT], line[CANCEL] = 0, 0, 0, 0
  line[EXPIRES], line[STARTED] = 0, 0
  if line[WATCHED] ~= 0 then line[WATCHED] = 1 end
  redis.call('HDEL', k_res, id)
  if line[IDEM] ~= '' then redis.call('PERSIST', k_idem(line[IDEM])) end
  enqueue(id, line)
  journal('O', now, id, line[V], S_QUEUED, 0, ARGV[2], ARGV[3])
  write_line(id, line)
end

local function revive(id, envelope, known)
  local v = tonumber(known[1]) == tonumber(epoch) and known[2] or 0
  local line = new_line(S_DEAD, v, known[5], known[6], known[3], 0, 0, 0, known[4], known[7])
  redis.call('HSET', k_env, id, envelope)
  redis.call('DEL', k_tomb(id))
  redis.call('SADD', k_queues, known[4])
  if known[7] ~= '' then redis.call('SET', k_idem(known[7]), id .. ' ' .. known[8]) end
  return line
end

for at = 4, #ARGV, 3 do
  local id, envelope, known = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  local line = read_line(id)
  local code = 1
  if not line and envelope == '' then
    code = 0
  elseif not line then
    requeue_reset(id, revive(id, envelope, cmsgpack.unpack(known)))
  elseif line[STATE] == S_DEAD or line[STATE] == S_CANCELLED or line[STATE] == S_EXPIRED then
    requeue_reset(id, line)
  elseif line[STATE] == S_SCHEDULED or line[STATE] == S_RETRYING then
    redis.call('ZREM', k_sched, id)
    line[V], line[BASE] = line[V] + 1, now
    enqueue(id, line)
    journal('T', now, id, line[V], S_QUEUED, 0, 'retry now', ARGV[3])
    write_line(id, line)
  else
    code = 3
  end
  flush_lines()
  reply[#reply + 1] = code
end
flush_journal()
reply[2] = seq
return reply
