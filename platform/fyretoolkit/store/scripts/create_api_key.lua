-- Create a key, and its organization with it if one is given; what is there already stays as it is.
-- With `is_first`, nothing happens if any operator key still works.
-- KEYS: 1 key record, 2 org's keys, 3 org's admin keys, 4 operator keys, 5 organization ('' if none), 6 organizations
-- ARGV: 1 JSON {id, fields, is_admin, is_operator, now, is_first, key_prefix, channel, message,
--               organization?{fields, member, message}}
-- Returns 'created' | 'exists' (the key: it was, or this very call was sent before) | 'taken' (there is an operator key)
local spec = cjson.decode(ARGV[1])
local is_there = redis.call('EXISTS', KEYS[1]) == 1
if spec.is_first and not is_there then
  for _, id in ipairs(redis.call('SMEMBERS', KEYS[4])) do
    local key = redis.call('HMGET', spec.key_prefix .. id, 'id', 'revoked_at', 'expires_at')
    if key[1] and not key[2] and (not key[3] or tonumber(key[3]) > spec.now) then return 'taken' end
  end
end
if spec.organization and redis.call('EXISTS', KEYS[5]) == 0 then
  for field, value in pairs(spec.organization.fields) do redis.call('HSET', KEYS[5], field, value) end
  redis.call('ZADD', KEYS[6], 0, spec.organization.member)
  redis.call('PUBLISH', spec.channel, spec.organization.message)
end
if is_there then return 'exists' end
for field, value in pairs(spec.fields) do redis.call('HSET', KEYS[1], field, value) end
redis.call('ZADD', KEYS[2], 0, spec.id)
if spec.is_admin then redis.call('SADD', KEYS[3], spec.id) end
if spec.is_operator then redis.call('SADD', KEYS[4], spec.id) end
redis.call('PUBLISH', spec.channel, spec.message)
return 'created'
