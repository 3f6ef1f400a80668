-- Only the present leader of a role writes: ARGV[2] is the role, ARGV[3] its term.
local held = redis.call('HGET', k_lead, ARGV[2])
local lead = held and cmsgpack.unpack(held)
if not lead or lead[2] ~= tonumber(ARGV[3]) or lead[3] <= now then
  return redis.error_reply('NOTLEADER term ' .. ARGV[3] .. ' of ' .. ARGV[2] .. ' is over')
end
