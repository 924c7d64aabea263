-- Create a key, and its organization with it if one is given; what is there already stays as it is.
-- With `is_first`, nothing happens if any operator key still works.
-- KEYS: 1 key record, 2 org's keys, 3 org's admin keys, 4 operator keys, 5 org's active keys, 6 organizations,
--   7 the caller's key ('' if none), 8 organization ('' if none)
-- ARGV: 1 JSON {id, fields, is_admin, is_operator, now, is_first, has_caller, limit?, kept, key_prefix, channel, message,
--               organization?{fields, member, message}}
-- The first key of an organization may outlive the caller's: it is another's, who would be locked out.
-- Returns {'created', when it expires or ''} | {'exists', the same} (it was, or this very call was sent before)
--   | {'taken'} (there is an operator key) | {'caller_inactive'} | {'full'} (`limit` keys of the organization work)
local spec = cjson.decode(ARGV[1])
local now = tonumber(redis.call('TIME')[1])

-- include working_keys
-- include making_keys
local is_there = redis.call('EXISTS', KEYS[1]) == 1
if spec.is_first and not is_there then
  for _, id in ipairs(redis.call('SMEMBERS', KEYS[4])) do
    local key = redis.call('HMGET', spec.key_prefix .. id, 'id', 'revoked_at', 'expires_at')
    if key[1] and not key[2] and (not key[3] or tonumber(key[3]) > spec.now) then return {'taken'} end
  end
end
if not is_there then
  if spec.has_caller then
    local ends = end_of_key(KEYS[7])
    if not ends then return {'caller_inactive'} end
    if not spec.organization then end_by(ends) end
  end
  if count_active(KEYS[5], KEYS[2]) >= (spec.limit or math.huge) then return {'full'} end
end
if spec.organization and redis.call('EXISTS', KEYS[8]) == 0 then
  for field, value in pairs(spec.organization.fields) do redis.call('HSET', KEYS[8], field, value) end
  redis.call('ZADD', KEYS[6], 0, spec.organization.member)
  redis.call('PUBLISH', spec.channel, spec.organization.message)
end
if is_there then return {'exists', redis.call('HGET', KEYS[1], 'expires_at') or ''} end
for field, value in pairs(spec.fields) do redis.call('HSET', KEYS[1], field, value) end
redis.call('ZADD', KEYS[2], 0, spec.id)
redis.call('ZADD', KEYS[5], spec.fields.expires_at or 'inf', spec.id)
if spec.is_admin then redis.call('SADD', KEYS[3], spec.id) end
if spec.is_operator then redis.call('SADD', KEYS[4], spec.id) end
forget_ended(KEYS[5], KEYS[2], KEYS[3], KEYS[4])
redis.call('PUBLISH', spec.channel, spec.message)
return {'created', spec.fields.expires_at or ''}
