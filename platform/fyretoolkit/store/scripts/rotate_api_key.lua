-- Put a new key in the place of one that works; the old one goes on until its overlap ends, never longer than it would.
-- The new one does not outlive the key of whoever calls, as it was before. Where the organization would be left without
-- an admin key that works as long as the old one would have, nothing happens.
-- KEYS: 1 old record, 2 new record, 3 org's keys, 4 org's admin keys, 5 operator keys, 6 org's active keys,
--   7 the caller's key ('' if none)
-- ARGV: 1 JSON {id, old, fields, is_admin, is_operator, now, expires_at, has_caller, limit?, kept, key_prefix, channel,
--   message}
-- Returns {'rotated', when it expires or ''} | {'inactive'} | {'caller_inactive'} | {'last_admin'} | {'full'} (`limit` keys
--   work, and the old one goes on)
local spec = cjson.decode(ARGV[1])
local now = tonumber(redis.call('TIME')[1])

-- include working_keys
-- include making_keys

if redis.call('EXISTS', KEYS[2]) == 1 then -- this very call was sent before
  return {'rotated', redis.call('HGET', KEYS[2], 'expires_at') or ''}
end
if spec.has_caller then
  local ends = end_of_key(KEYS[7])
  if not ends then return {'caller_inactive'} end
  end_by(ends)
end
local old = redis.call('HMGET', KEYS[1], 'id', 'revoked_at', 'expires_at')
local expires_at = tonumber(old[3] or math.huge)
if not old[1] or old[2] or expires_at <= spec.now then return {'inactive'} end
local is_shorter = tonumber(spec.fields.expires_at or math.huge) < expires_at
if spec.is_admin and is_shorter and is_last_admin(KEYS[4], spec.key_prefix, spec.old, expires_at) then
  return {'last_admin'}
end
local old_ends = math.min(expires_at, spec.expires_at)
local active = count_active(KEYS[6], KEYS[3])
if old_ends > spec.now and active >= (spec.limit or math.huge) then return {'full'} end
for field, value in pairs(spec.fields) do redis.call('HSET', KEYS[2], field, value) end
redis.call('ZADD', KEYS[3], 0, spec.id)
redis.call('ZADD', KEYS[6], spec.fields.expires_at or 'inf', spec.id, old_ends, spec.old)
if spec.is_admin then redis.call('SADD', KEYS[4], spec.id) end
if spec.is_operator then redis.call('SADD', KEYS[5], spec.id) end
redis.call('HSET', KEYS[1],
  'replaced_by', spec.id, 'expires_at', string.format('%d', old_ends))
forget_ended(KEYS[6], KEYS[3], KEYS[4], KEYS[5])
redis.call('PUBLISH', spec.channel, spec.message)
return {'rotated', spec.fields.expires_at or ''}
