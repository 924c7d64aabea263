-- Revoke a key, unless its organization would be left without an admin key that works as long as this one.
-- KEYS: 1 record, 2 org's admin keys, 3 operator keys, 4 org's active keys
-- ARGV: 1 id, 2 now (s), 3 prefix of key records, 4 channel, 5 message
-- Returns 'revoked' (again, too) | 'last_admin' | 'missing'
local now = tonumber(ARGV[2])

-- The time at which a key stops working; 0 if it does not work now.
local function ends(record)
  local key = redis.call('HMGET', record, 'id', 'revoked_at', 'expires_at')
  local expires_at = tonumber(key[3] or math.huge)
  if not key[1] or key[2] or expires_at <= now then return 0 end
  return expires_at
end

if redis.call('EXISTS', KEYS[1]) == 0 then return 'missing' end
if redis.call('HEXISTS', KEYS[1], 'revoked_at') == 1 then return 'revoked' end
local own_end = ends(KEYS[1])
if own_end > 0 and redis.call('SISMEMBER', KEYS[2], ARGV[1]) == 1 then
  local is_last = true
  for _, id in ipairs(redis.call('SMEMBERS', KEYS[2])) do
    if id ~= ARGV[1] and ends(ARGV[3] .. id) >= own_end then is_last = false end
  end
  if is_last then return 'last_admin' end
end
redis.call('HSET', KEYS[1], 'revoked_at', ARGV[2])
redis.call('SREM', KEYS[2], ARGV[1])
redis.call('SREM', KEYS[3], ARGV[1])
redis.call('ZREM', KEYS[4], ARGV[1])
redis.call('PUBLISH', ARGV[4], ARGV[5])
return 'revoked'
