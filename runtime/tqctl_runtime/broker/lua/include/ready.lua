-- The ready sets: where queued tasks stand in line, and the bell that wakes an idle worker.
-- score = submit ms + place in its call / 1024 - priority x band, exact in a double.
local rung = {}

local function ring(queue)
  if rung[queue] then return end
  rung[queue] = true
  if redis.call('LLEN', k_bell(queue)) == 0 then redis.call('LPUSH', k_bell(queue), 1) end
end

local function stand_in_line(queue)
  if not rung[queue] then redis.call('SADD', k_queues, queue) end
  ring(queue)
end

local function ready_key(line)
  if line[SUSPECT] == 1 then return k_suspects(line[QUEUE]) end
  return k_ready(line[QUEUE])
end

local function enqueue(id, line)
  line[STATE], line[HELD], line[DUE] = S_QUEUED, 0, 0
  redis.call('ZADD', ready_key(line), line[BASE] - line[PRIORITY] * PRIORITY_BAND, id)
  stand_in_line(line[QUEUE])
end
