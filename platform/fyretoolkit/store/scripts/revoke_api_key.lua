-- Revoke a key, unless its organization would be left without an admin key that works as long as this one.
-- KEYS: 1 record, 2 org's admin keys, 3 operator keys, 4 org's active keys
-- ARGV: 1 id, 2 now (s), 3 prefix of key records, 4 channel, 5 message
-- Returns 'revoked' (again, too) | 'last_admin' | 'missing'
local now = tonumber(ARGV[2])

-- include working_keys

if redis.call('EXISTS', KEYS[1]) == 0 then return 'missing' end
if redis.call('HEXISTS', KEYS[1], 'revoked_at') == 1 then return 'revoked' end
local own_end = end_of_key(KEYS[1])
local is_admin = redis.call('SISMEMBER', KEYS[2], ARGV[1]) == 1
if own_end and is_admin and is_last_admin(KEYS[2], ARGV[3], ARGV[1], own_end) then return 'last_admin' end
redis.call('HSET', KEYS[1], 'revoked_at', ARGV[2])
redis.call('SREM', KEYS[2], ARGV[1])
redis.call('SREM', KEYS[3], ARGV[1])
redis.call('ZREM', KEYS[4], ARGV[1])
redis.call('PUBLISH', ARGV[4], ARGV[5])
return 'revoked'
