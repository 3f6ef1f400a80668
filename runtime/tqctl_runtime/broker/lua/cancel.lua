#!lua flags=allow-oom
-- Cancels tasks: final at once where nobody holds it, else a request that the holder sees.
-- KEYS meta
-- ARGV now, reason, who, ids
-- Returns {now, seq, code for each id: 1 cancelled, 2 requested, 3 already final, 0 not live here}
-- Invariants: INV-1 INV-10
--- include gate
--- include line
--- include journal
--- include ready
--- include final
local reply = {now, 0}
for at = 4, #ARGV do
  local id = ARGV[at]
  local line = read_line(id)
  local code = 0
  if line and is_final(line) then
    code = 3
  elseif line and line[HELD] == 1 then
    code = 2
    if line[CANCEL] == 0 then
      line[CANCEL], line[V] = 1, line[V] + 1
      redis.call('HSET', k_cancel, id, ARGV[2])
      journal('C', now, id, line[V], ARGV[2], ARGV[3])
      write_line(id, line)
    end
    local worker = string.match(line[TOKEN], '^%d+%-%d+%-(.+)%-%d+$')
    if worker then redis.call('PUBLISH', PREFIX .. 'ctl:' .. worker, id) end
  elseif line then
    code = 1
    redis.call('ZREM', ready_key(line), id)
    redis.call('ZREM', k_sched, id)
    line[V] = line[V] + 1
    finalise(id, line, S_CANCELLED)
    journal('T', now, id, line[V], S_CANCELLED, 0, ARGV[2], ARGV[3])
    write_line(id, line)
  end
  flush_lines()
  reply[#reply + 1] = code
end
flush_journal()
reply[2] = seq
return reply
