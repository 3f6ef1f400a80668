#!lua flags=allow-oom
-- Takes or renews the lease of a leader. A new holder needs a term above every earlier one.
-- KEYS meta
-- ARGV now, role, holder, term, lease (ms; 0 = resign)
-- Returns {now, is_leader, holder, term, until (ms)}
-- Invariants: INV-11
--- include gate
local role, holder, term = ARGV[2], ARGV[3], tonumber(ARGV[4])
local raw = redis.call('HGET', k_lead, role)
local lead = raw and cmsgpack.unpack(raw) or {'', 0, 0}
local is_mine = lead[1] == holder and lead[2] == term
if is_mine or (lead[3] <= now and term > lead[2]) then
  lead = {holder, term, now + tonumber(ARGV[5])}
  redis.call('HSET', k_lead, role, cmsgpack.pack(lead))
  is_mine = lead[3] > now
end
return {now, is_mine and 1 or 0, lead[1], lead[2], lead[3]}
