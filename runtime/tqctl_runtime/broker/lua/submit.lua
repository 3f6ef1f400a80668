#!lua
-- Accepts up to 1,000 tasks. Each gets exactly one life: an id, idempotency key or unique window that is taken
-- answers with the first task instead.
-- KEYS meta
-- ARGV now (ms, 0 = server time), then for each task: head (msgpack array), envelope (opaque)
-- Returns {epoch, seq, recorder's last sign (ms), now, code, id, code, id ...}
--   codes: state number 1..3 accepted; -1 the id is known; -2 idempotency key or unique window: id is the first task's;
--   -3 the idempotency key belongs to other work. Error BUSY <retry ms> <why>: nothing was queued.
-- Invariants: INV-1 INV-4 INV-7
--- include gate
--- include pressure
if is_busy then
  return redis.error_reply('BUSY 1000 the record is ' .. behind_rows .. ' rows behind, or memory is short')
end
--- include line
--- include journal
--- include ready
local DAY_MS = 86400000
local reply = {epoch, 0, mark[3] or '0', now}
local envelopes, known_queues = {}, {}

local function earlier(head)
  local id, key, fingerprint, unique = head[1], head[10], head[11], head[12]
  if redis.call('HEXISTS', k_st, id) == 1 or redis.call('EXISTS', k_tomb(id)) == 1 then return -1, id end
  if key then
    local held = redis.call('GET', k_idem(key))
    if held then
      local first, print = string.match(held, '^(%S+) (%S+)$')
      if print ~= fingerprint then return -3, first end
      return -2, first
    end
  end
  if unique then
    local first = redis.call('GET', k_unique(unique))
    if first then return -2, first end
  end
end

local function create(head, index)
  local id, queue, due, expires = head[1], head[2], head[6], head[8]
  if head[5] > 0 then due = now + head[5] end
  if head[7] > 0 then expires = math.max(due, now) + head[7] end
  local line = {LINE_LAYOUT, S_QUEUED, 1, queue, head[3], head[4], 0, 0, 0, now, now + index / 1024, expires, 0,
    '', 0, 0, 0, 0, head[9] and 1 or 0, head[10] or ''}
  if due > now then
    line[STATE], line[DUE], line[BASE] = S_SCHEDULED, due, due
    redis.call('ZADD', k_sched, due, id)
  else
    enqueue(id, line)
    line[BASE] = now
  end
  if expires > 0 then redis.call('ZADD', k_exp, expires, id) end
  if head[10] then redis.call('SET', k_idem(head[10]), id .. ' ' .. head[11]) end
  if head[12] then redis.call('SET', k_unique(head[12]), id, 'PX', head[13]) end
  if not known_queues[queue] then
    known_queues[queue] = true
    redis.call('SADD', k_queues, queue)
  end
  return line
end

for at = 2, #ARGV, 2 do
  local head, envelope = cmsgpack.unpack(ARGV[at]), ARGV[at + 1]
  local code, id = earlier(head)
  if not code then
    local line = create(head, (at - 2) / 2)
    code, id = line[STATE], head[1]
    write_line(id, line)
    flush_lines()
    redis.call('HSET', k_env, id, envelope)
    journal('S', now, id, 1, code, line[QUEUE], line[PRIORITY], line[MAX], line[DUE], line[EXPIRES], line[IDEM],
      head[11], envelope)
  end
  reply[#reply + 1] = code
  reply[#reply + 1] = id
end
flush_journal()
reply[2] = seq
return reply
