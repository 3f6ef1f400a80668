-- The submitted heads, read before anything is written, and what already stands where they want to be.
local heads, ids, tombs, seen = {}, {}, {}, {}
for at = 2, #ARGV, 2 do
  local head = cmsgpack.unpack(ARGV[at])
  local index = at / 2
  heads[index], ids[index], tombs[index] = head, head[1], k_tomb(head[1])
end
local live = redis.call('HMGET', k_st, unpack(ids))
tombs = redis.call('MGET', unpack(tombs))

local function earlier(index, head)
  local id, key, fingerprint, unique = head[1], head[10], head[11], head[12]
  if live[index] or tombs[index] or seen[id] then return -1, id end
  if key then
    local held = redis.call('GET', k_idem(key))
    if held then
      local first, print = string.match(held, '^(%S+) (%S+)$')
      return print == fingerprint and -2 or -3, first
    end
  end
  local first = unique and redis.call('GET', k_unique(unique))
  if first then return -2, first end
end
