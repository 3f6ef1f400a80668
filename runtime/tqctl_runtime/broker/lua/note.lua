#!lua flags=allow-oom
-- Progress and live log lines of running attempts; kept only while the token owns the task.
-- KEYS meta
-- ARGV now, notes: msgpack [[id, token, progress JSON or '', log bytes or '']...]
-- Returns {now}
-- Invariants: INV-2 INV-5
--- include gate
--- include line
--- include live_log
local LOG_LENGTH = 1000
for _, item in ipairs(cmsgpack.unpack(ARGV[2])) do
  local id = item[1]
  local line = read_line(id)
  if line and line[TOKEN] == item[2] and line[HELD] == 1 then
    if item[3] ~= '' then redis.call('HSET', k_prog, id, item[3]) end
    if item[4] ~= '' then
      redis.call('XADD', k_log(id), 'MAXLEN', '~', LOG_LENGTH, '*', 'a', line[ATTEMPTS], 'd', item[4])
      local worker = string.match(line[TOKEN], '^%d+%-%d+%-(.+)%-%d+$')
      keep_log(id, tonumber(worker and redis.call('ZSCORE', k_leases, worker) or now))
    end
  end
end
return {now}
