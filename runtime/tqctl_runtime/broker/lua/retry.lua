#!lua
-- An operator's retry: scheduled and retrying tasks run now; final ones but succeeded run again under the same id with
-- failures and deaths reset. A task that was forgotten comes with what SQL knows of it.
-- KEYS meta
-- ARGV now, reason, who, then for each task: id, envelope or '', known: msgpack [epoch, v, attempts, queue, priority,
--   max retries, idempotency key, fingerprint, created (ms)] or ''
-- Returns {now, seq, code for each: 1 queued, 3 not in a state that permits it, or known is older than what was
--   forgotten here, 0 not live: give envelope and known}
-- Invariants: INV-1 INV-3 INV-7
--- include gate
--- include line
--- include journal
--- include ready
--- include revive
local reply, known = {now, 0}, {}
for at = 6, #ARGV, 3 do known[at] = ARGV[at] ~= '' and cmsgpack.unpack(ARGV[at]) end

for at = 4, #ARGV, 3 do
  local id, told = ARGV[at], known[at + 2]
  local line = read_line(id)
  local code = 1
  if not line and not told then
    code = 0
  elseif not line and is_outdated(id, told) then
    code = 3
  elseif not line then
    revive(id, ARGV[at + 1], told)
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
