#!lua flags=allow-oom
-- Takes or renews the lease of a leader. A new holder needs a term above every earlier one; a term of 0 only looks.
-- KEYS meta
-- ARGV now, role, holder, term, lease (ms; 0 = resign)
-- Returns {now, is_leader, holder, term, until (ms), is_free: a greater term would lead now}
-- Invariants: INV-11
--- include gate
local role, holder, term, lease = ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local raw = redis.call('HGET', k_lead, role)
local lead = raw and cmsgpack.unpack(raw) or {'', 0, 0}
local is_mine = lead[1] == holder and lead[2] == term
-- A lease that ends later than two from now was given before the clock was set back.
local is_free = lead[3] <= now or (lease > 0 and lead[3] > now + 2 * lease)
if is_mine or (is_free and term > lead[2]) then
  lead = {holder, term, now + lease}
  redis.call('HSET', k_lead, role, cmsgpack.pack(lead))
  is_mine, is_free = lease > 0, lease == 0
end
return {now, is_mine and 1 or 0, lead[1], lead[2], lead[3], is_free and 1 or 0}
