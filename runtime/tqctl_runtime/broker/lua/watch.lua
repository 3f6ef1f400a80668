#!lua flags=allow-oom
-- Marks tasks as waited for: their end is told on a channel and their result stays for the wait time.
-- KEYS meta
-- ARGV now, ids
-- Returns {now, state, v, result detail or '' ... for each; state 0 = not live, v then 1 where a tombstone stands}
-- Invariants: INV-4
--- include gate
--- include line
local reply = {now}
for at = 2, #ARGV do
  local id = ARGV[at]
  local line = read_line(id)
  local detail = ''
  if not line then
    reply[#reply + 1], reply[#reply + 2] = 0, redis.call('EXISTS', k_tomb(id))
  else
    if is_final(line) then
      detail = redis.call('HGET', k_res, id) or ''
    elseif line[WATCHED] == 0 then
      line[WATCHED] = 1
      write_line(id, line)
      flush_lines()
    end
    reply[#reply + 1], reply[#reply + 2] = line[STATE], line[V]
  end
  reply[#reply + 1] = detail
end
return reply
