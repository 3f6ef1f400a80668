#!lua flags=no-writes
-- The live figures: positions of journal and record, queues with sizes and heads, workers, coordinators, leaders.
-- KEYS meta
-- ARGV now
-- Returns {now, meta {field, value...}, wm {...}, stat {...}, scheduled count, first due,
--   queues {name, ready, suspects, oldest score or '', pause JSON or ''...},
--   workers {id, info, live figures or '', lease end, tasks held...}, coordinators {id, info...},
--   leaders {role, holder, term, until...}, catalogue size, journal entries}
-- Invariants: none, it only reads
--- include gate
--- include paused
local queues, workers, leaders = {}, {}, {}
local names = redis.call('SMEMBERS', k_queues)
for _, name in ipairs(redis.call('HKEYS', k_pause)) do
  if is_paused(name) and redis.call('SISMEMBER', k_queues, name) == 0 then names[#names + 1] = name end
end
for _, name in ipairs(names) do
  local head = redis.call('ZRANGE', k_ready(name), 0, 0)
  local why = is_paused(name) and redis.call('HGET', k_pausewhy, name)
  for _, value in ipairs({name, redis.call('ZCARD', k_ready(name)), redis.call('ZCARD', k_suspects(name)),
    head[1] or '', why or ''}) do
    queues[#queues + 1] = value
  end
end
local leases = redis.call('ZRANGE', k_leases, 0, -1, 'WITHSCORES')
for index = 1, #leases, 2 do
  local id = leases[index]
  for _, value in ipairs({id, redis.call('HGET', k_workers, id) or '', redis.call('HGET', k_wlive, id) or '',
    leases[index + 1], redis.call('HLEN', k_own(id))}) do
    workers[#workers + 1] = value
  end
end
local held = redis.call('HGETALL', k_lead)
for index = 1, #held, 2 do
  local lead = cmsgpack.unpack(held[index + 1])
  for _, value in ipairs({held[index], lead[1], lead[2], lead[3]}) do leaders[#leaders + 1] = value end
end
local first = redis.call('ZRANGE', k_sched, 0, 0, 'WITHSCORES')
return {now, redis.call('HGETALL', k_meta), redis.call('HGETALL', k_wm), redis.call('HGETALL', k_stat),
  redis.call('ZCARD', k_sched), first[2] or '', queues, workers, redis.call('HGETALL', k_coordinators), leaders,
  redis.call('HLEN', k_catalogue), redis.call('XLEN', k_journal)}
