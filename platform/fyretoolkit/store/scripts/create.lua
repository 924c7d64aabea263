-- Create a record, its list entries and the answer to its idempotency key, all or nothing.
-- KEYS: 1 record, 2 idempotency key ('' if none), 3 open set ('' if none), 4.. lists
-- ARGV: 1 JSON {fields, member, list_member, channel, message, counter?, ttl_s?, requires_ready?[],
--   idempotency?{fingerprint, answer, ttl_s}}
-- The first record that exists of `requires_ready` must have the status 'ready'.
-- Returns {'created'} | {'exists'} | {'replayed', answer} | {'reused'} | {'refused', status}
local spec = cjson.decode(ARGV[1])
if KEYS[2] ~= '' then
  local fingerprint = redis.call('HGET', KEYS[2], 'fingerprint')
  if fingerprint then
    if fingerprint ~= spec.idempotency.fingerprint then return {'reused'} end
    return {'replayed', redis.call('HGET', KEYS[2], 'answer')}
  end
end
if redis.call('EXISTS', KEYS[1]) == 1 then return {'exists'} end
for _, key in ipairs(spec.requires_ready or {}) do
  local status = redis.call('HGET', key, 'status')
  if status and status ~= 'ready' then return {'refused', status} end
  if status then break end
end
for field, value in pairs(spec.fields) do redis.call('HSET', KEYS[1], field, value) end
if spec.ttl_s then redis.call('EXPIRE', KEYS[1], spec.ttl_s) end
if KEYS[3] ~= '' then redis.call('SADD', KEYS[3], spec.member) end
for i = 4, #KEYS do redis.call('ZADD', KEYS[i], 0, spec.list_member) end
if KEYS[2] ~= '' then
  redis.call('HSET', KEYS[2], 'fingerprint', spec.idempotency.fingerprint, 'answer', spec.idempotency.answer)
  redis.call('EXPIRE', KEYS[2], spec.idempotency.ttl_s)
end
if spec.counter then redis.call('INCR', spec.counter) end
redis.call('PUBLISH', spec.channel, spec.message)
return {'created'}
