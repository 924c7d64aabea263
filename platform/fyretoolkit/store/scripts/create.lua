-- Create a record, its list entries and the answer to its idempotency key, all or nothing.
-- KEYS: 1 record, 2 idempotency key ('' if none), 3 open set ('' if none), 4.. lists
-- ARGV: 1 JSON {call, fields, member, list_members[], channel, message, counter?, ttl_s?, requires_ready?[],
--   quota?{list, limit, beginning?}, size?{sizes, files, prefix, id, bytes, limit?}, idempotency?{fingerprint, answer, ttl_s}}
-- `quota`: the list may have `limit` members at most, those with this beginning alone if there is one. `size`: the bytes are counted among the organization's `sizes`,
-- which may be `limit` in total.
-- `call` is this very call's own: what it wrote, it has created, though it be sent again because its reply was lost.
-- The first record that exists of `requires_ready` must have the status 'ready'.
-- Returns {'created'} | {'exists'} | {'replayed', answer} | {'reused'} | {'refused', status} | {'full'}
local spec = cjson.decode(ARGV[1])
if KEYS[2] ~= '' then
  local first = redis.call('HMGET', KEYS[2], 'fingerprint', 'answer', 'call')
  if first[1] then
    if first[1] ~= spec.idempotency.fingerprint then return {'reused'} end
    if first[3] == spec.call then return {'created'} end
    return {'replayed', first[2]}
  end
end
if redis.call('EXISTS', KEYS[1]) == 1 then
  return {redis.call('HGET', KEYS[1], 'call') == spec.call and 'created' or 'exists'}
end
for _, key in ipairs(spec.requires_ready or {}) do
  local status = redis.call('HGET', key, 'status')
  if status and status ~= 'ready' then return {'refused', status} end
  if status then break end
end
if spec.quota then
  local list, beginning = spec.quota.list, spec.quota.beginning
  local used = beginning and redis.call('ZLEXCOUNT', list, '[' .. beginning, '[' .. beginning .. '\255')
    or redis.call('ZCARD', list)
  if used >= spec.quota.limit then return {'full'} end
end
if spec.size then
  local sizes, total = spec.size.sizes, 'total'
  if redis.call('EXISTS', sizes) == 0 then -- files from before sizes were counted
    for _, id in ipairs(redis.call('ZRANGE', spec.size.files, 0, -1)) do
      local size = redis.call('HGET', spec.size.prefix .. id, 'size_bytes')
      if size then
        redis.call('HSET', sizes, id, size)
        redis.call('HINCRBY', sizes, total, size)
      end
    end
  end
  local used = tonumber(redis.call('HGET', sizes, total) or '0')
  if spec.size.limit and used + tonumber(spec.size.bytes) > spec.size.limit then return {'full'} end
  redis.call('HSET', sizes, spec.size.id, spec.size.bytes)
  redis.call('HINCRBY', sizes, total, spec.size.bytes)
end
redis.call('HSET', KEYS[1], 'call', spec.call)
for field, value in pairs(spec.fields) do redis.call('HSET', KEYS[1], field, value) end
if spec.ttl_s then redis.call('EXPIRE', KEYS[1], spec.ttl_s) end
if KEYS[3] ~= '' then redis.call('SADD', KEYS[3], spec.member) end
for i = 4, #KEYS do redis.call('ZADD', KEYS[i], 0, spec.list_members[i - 3]) end
if KEYS[2] ~= '' then
  redis.call('HSET', KEYS[2], 'call', spec.call,
    'fingerprint', spec.idempotency.fingerprint, 'answer', spec.idempotency.answer)
  redis.call('EXPIRE', KEYS[2], spec.idempotency.ttl_s)
end
if spec.counter then redis.call('INCR', spec.counter) end
redis.call('PUBLISH', spec.channel, spec.message)
return {'created'}
