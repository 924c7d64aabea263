-- Change a model's status and fields, if its status, its publication and the writer's epoch still allow it.
-- KEYS: 1 record, 2 controller epoch, 3 models being prepared, 4 list of the models with the new status ('' if it
--   stays), 5.. lists of the models with the statuses in `from`
-- ARGV: 1 JSON {from[], fields, clear[], member, list_member, channel, message, is_preparing?, epoch?, publication?,
--   unused?{deployments, prefix, live[]}}
-- A change decided on an older `publication` is refused; `is_preparing` begins a new one. `unused` names the list of
-- the organization's deployments, what their records' keys begin with, and the statuses of those that are in the way.
-- Returns {'changed'} | {'fenced'} | {'missing'} | {'superseded'} | {'in_use', deployment..} | {status in the way}
local spec = cjson.decode(ARGV[1])
if spec.epoch and redis.call('GET', KEYS[2]) ~= spec.epoch then return {'fenced'} end
local model = redis.call('HMGET', KEYS[1], 'status', 'publication', 'id')
if not model[1] then return {'missing'} end
local legal = false
for _, from in ipairs(spec.from) do legal = legal or from == model[1] end
if not legal then return {model[1]} end
if spec.publication and model[2] ~= spec.publication then return {'superseded'} end
if spec.unused then
  local found = {'in_use'}
  for _, name in ipairs(redis.call('ZRANGE', spec.unused.deployments, 0, -1)) do
    local each = redis.call('HMGET', spec.unused.prefix .. name, 'model', 'status')
    if each[1] == model[3] then
      for _, status in ipairs(spec.unused.live) do
        if each[2] == status then found[#found + 1] = name end
      end
    end
  end
  if #found > 1 then return found end
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
redis.call('PUBLISH', spec.channel, spec.message)
return {'changed'}
