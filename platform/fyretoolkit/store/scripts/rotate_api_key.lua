-- Put a new key in the place of one that works; the old one goes on until its overlap ends, never longer than it would.
-- KEYS: 1 old record, 2 new record, 3 org's keys, 4 org's admin keys, 5 operator keys
-- ARGV: 1 JSON {id, fields, is_admin, is_operator, now, expires_at, channel, message}
-- Returns 'rotated' | 'inactive'
local spec = cjson.decode(ARGV[1])
if redis.call('EXISTS', KEYS[2]) == 1 then return 'rotated' end -- this very call was sent before
local old = redis.call('HMGET', KEYS[1], 'id', 'revoked_at', 'expires_at')
local expires_at = tonumber(old[3] or math.huge)
if not old[1] or old[2] or expires_at <= spec.now then return 'inactive' end
for field, value in pairs(spec.fields) do redis.call('HSET', KEYS[2], field, value) end
redis.call('ZADD', KEYS[3], 0, spec.id)
if spec.is_admin then redis.call('SADD', KEYS[4], spec.id) end
if spec.is_operator then redis.call('SADD', KEYS[5], spec.id) end
redis.call('HSET', KEYS[1],
  'replaced_by', spec.id, 'expires_at', string.format('%d', math.min(expires_at, spec.expires_at)))
redis.call('PUBLISH', spec.channel, spec.message)
return 'rotated'
