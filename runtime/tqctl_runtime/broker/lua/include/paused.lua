-- Whether a queue is paused: '0' is until resumed, else the end by the server's clock.
local function is_paused(queue)
  local till = redis.call('HGET', k_pause, queue)
  return till and (till == '0' or tonumber(till) > now)
end
