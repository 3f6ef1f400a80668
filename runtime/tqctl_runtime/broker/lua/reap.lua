#!lua flags=allow-oom
-- Takes back what workers with an expired lease held. A death counts only for a task that was alone: the only started
-- one, or the only suspect among the started. With none started, each held task is a suspect from now on.
-- After a gap of more than three intervals, or half a lease, nobody is reaped for one lease: an outage is no mass death.
-- KEYS meta
-- ARGV now, role, term, interval (ms), lease (ms)
-- Returns {now, workers reaped, tasks taken back, reaping again at (ms)}
-- Invariants: INV-2 INV-5 INV-8
--- include gate
--- include leader
--- include line
--- include journal
--- include ready
--- include final
--- include outcome
local interval, lease = tonumber(ARGV[4]), tonumber(ARGV[5])
local ticks = redis.call('HMGET', k_meta, 'reap_tick', 'reap_from')
local from = tonumber(ticks[2] or '0')
-- A worker may have a third of its lease behind it: what it could not renew in the rest is a gap too.
local gap = math.min(3 * interval, lease / 2)
if ticks[1] and now - tonumber(ticks[1]) > gap then from = now + lease end
redis.call('HSET', k_meta, 'reap_tick', now, 'reap_from', from)
if now < from then return {now, 0, 0, from} end

local function held_lines(worker)
  local held, started, suspects = {}, 0, 0
  for _, id in ipairs(redis.call('HKEYS', k_own(worker))) do
    local line = read_line(id)
    if line and line[HELD] == 1 then
      held[#held + 1] = {id, line}
      if line[STATE] == S_RUNNING then
        started = started + 1
        suspects = suspects + line[SUSPECT]
      end
    end
  end
  return held, started, suspects
end

local function take_back(worker, id, line, is_charged, is_suspect)
  local was_running = line[STATE] == S_RUNNING
  local state, reason, outcome
  line[V] = line[V] + 1
  if was_running and is_charged then
    state, reason = die(id, line, '')
    outcome = O_DIED
  else
    state, reason = requeue(id, line, was_running or is_suspect, 0, '')
    outcome = O_INTERRUPTED
  end
  if reason == '' then reason = was_running and 'worker lost' or 'worker lost, it may have begun' end
  redis.call('HDEL', k_prog, id)
  if was_running then
    journal('F', now, id, line[V], outcome, state, line[ATTEMPTS], worker, line[STARTED], line[FAILURES],
      line[DEATHS], 0, reason, '')
  else
    journal('T', now, id, line[V], state, 0, reason, '')
  end
  line[TOKEN] = ''
  write_line(id, line)
end

local taken = 0
local expired = redis.call('ZRANGEBYSCORE', k_leases, '-inf', now, 'LIMIT', 0, 10)
for _, worker in ipairs(expired) do
  local held, started, suspects = held_lines(worker)
  for _, pair in ipairs(held) do
    local is_charged = started == 1 or (suspects == 1 and pair[2][SUSPECT] == 1)
    take_back(worker, pair[1], pair[2], is_charged, started == 0)
  end
  taken = taken + #held
  journal('W', now, worker, 'lost', redis.call('HGET', k_workers, worker) or '{}')
  redis.call('DEL', k_own(worker), k_slot(worker))
  redis.call('ZREM', k_leases, worker)
  redis.call('HDEL', k_workers, worker)
  redis.call('HDEL', k_wlive, worker)
end
flush_lines()
flush_journal()
return {now, #expired, taken, from}
