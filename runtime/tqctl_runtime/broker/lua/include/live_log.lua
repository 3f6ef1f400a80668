-- A live log outlasts the last line and the last beat of its attempt by a minute, or by the lease where that is longer.
-- An attempt may be silent between two beats, of which one comes each third of a lease.
local LOG_MS = 60000

local function keep_log(id, lease_end)
  redis.call('PEXPIRE', k_log(id), math.max(LOG_MS, lease_end - now))
end
