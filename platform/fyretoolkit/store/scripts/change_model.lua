-- Change a model's status and fields, if its status, its publication and the writer's epoch still allow it.
-- KEYS: 1 record, 2 controller epoch, 3 models being prepared, 4 list of the models with the new status ('' if it
--   stays), 5.. lists of the models with the statuses in `from`
-- ARGV: 1 JSON {from[], fields, clear[], member, list_member, channel, message, is_preparing?, epoch?, publication?,
--   unused?{deployments, by_model, prefix, live[]}, idempotency?{name, call, fingerprint, answer, ttl_s}}
-- A change decided on an older `publication` is refused; `is_preparing` begins a new one. `unused` names the lists of
-- the organization's deployments, what their records' keys begin with, and the statuses of those that are in the way,
-- of which no more than 100 are told. `idempotency` is the key `name` with the answer to keep under it: written with the
-- change; if it is there, nothing is changed, and its answer is told unless this very `call` wrote it.
-- Returns {'changed'} | {'replayed', answer} | {'reused'} | {'fenced'} | {'missing'} | {'superseded'} | {'in_use', deployment..} | {status in the way}
local spec = cjson.decode(ARGV[1])
if spec.epoch and redis.call('GET', KEYS[2]) ~= spec.epoch then return {'fenced'} end
local idempotency = spec.idempotency
if idempotency then
  local first = redis.call('HMGET', idempotency.name, 'fingerprint', 'answer', 'call')
  if first[1] then
    if first[1] ~= idempotency.fingerprint then return {'reused'} end
    if first[3] == idempotency.call then return {'changed'} end
    return {'replayed', first[2]}
  end
end
local model = redis.call('HMGET', KEYS[1], 'status', 'publication', 'id')
if not model[1] then return {'missing'} end
local legal = false
for _, from in ipairs(spec.from) do legal = legal or from == model[1] end
if not legal then return {model[1]} end
if spec.publication and model[2] ~= spec.publication then return {'superseded'} end
if spec.unused then
  local index = spec.unused.by_model
  if redis.call('ZCARD', index) ~= redis.call('ZCARD', spec.unused.deployments) then -- some are older than it
    redis.call('DEL', index)
    for _, name in ipairs(redis.call('ZRANGE', spec.unused.deployments, 0, -1)) do
      local each = redis.call('HMGET', spec.unused.prefix .. name, 'model', 'status')
      local group = '~'
      for _, status in ipairs(spec.unused.live) do
        if each[2] == status then group = each[1] end
      end
      redis.call('ZADD', index, 0, group .. ' ' .. name)
    end
  end
  local found = redis.call('ZRANGEBYLEX', index, '[' .. model[3] .. ' ', '(' .. model[3] .. '!', 'LIMIT', 0, 100)
  if #found > 0 then
    for i, member in ipairs(found) do found[i] = string.match(member, ' (.*)$') end
    table.insert(found, 1, 'in_use')
    return found
  end
end
for _, field in ipairs(spec.clear) do redis.call('HDEL', KEYS[1], field) end
for field, value in pairs(spec.fields) do redis.call('HSET', KEYS[1], field, value) end
if spec.is_preparing then
  redis.call('HINCRBY', KEYS[1], 'publication', 1)
  redis.call('SADD', KEYS[3], spec.member)
else
  redis.call('SREM', KEYS[3], spec.member)
end
if KEYS[4] ~= '' then
  for i = 5, #KEYS do redis.call('ZREM', KEYS[i], spec.list_member) end
  redis.call('ZADD', KEYS[4], 0, spec.list_member)
end
if idempotency then
  redis.call('HSET', idempotency.name, 'call', idempotency.call,
    'fingerprint', idempotency.fingerprint, 'answer', idempotency.answer)
  redis.call('EXPIRE', idempotency.name, idempotency.ttl_s)
end
redis.call('PUBLISH', spec.channel, spec.message)
return {'changed'}
