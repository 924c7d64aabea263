-- Change a deployment's status and fields, if its status and the writer's epoch still allow it.
-- KEYS: 1 record, 2 controller epoch, 3 open set, 4 list, 5 events, 6 routes version, 7 assignment, 8 list by model,
--   9 assignment of an application that it leaves
-- ARGV: 1 JSON {from[], live[], fields, event?, member, list_member, message, channel, epoch?, forget_s?, assignment?,
--   is_claim?, spent_s?, clear?[], revision?, is_revised?, call?, requires_ready?[]}
-- A change decided on an older `revision` is refused; `is_revised` begins a new one, which knows its own `call`, sent
-- again because its reply was lost. The first record that exists of
-- `requires_ready` must have the status 'ready'. `clear` names the fields to remove.
-- `forget_s` ends the deployment: it leaves the lists and its record expires.
-- `is_claim`: the application stood by, and nobody may have been given it before; `spent_s` is how long what the one that
-- the deployment leaves had is kept, so that it is not taken for one that stands by.
-- Returns 'taken' | 'changed' | 'fenced' | 'missing' | 'revised' | the status (its own, or the required record's) in the way.
local spec = cjson.decode(ARGV[1])
if spec.epoch and redis.call('GET', KEYS[2]) ~= spec.epoch then return 'fenced' end
local status = redis.call('HGET', KEYS[1], 'status')
if not status then return 'missing' end
local legal = false
for _, from in ipairs(spec.from) do legal = legal or from == status end
if not legal then return status end
if spec.call and redis.call('HGET', KEYS[1], 'changed_by') == spec.call then return 'changed' end
if spec.revision and (redis.call('HGET', KEYS[1], 'revision') or '0') ~= spec.revision then return 'revised' end
for _, key in ipairs(spec.requires_ready or {}) do
  local required = redis.call('HGET', key, 'status')
  if required and required ~= 'ready' then return required end
  if required then break end
end
if spec.is_claim and redis.call('EXISTS', KEYS[7]) == 1 then
  -- Its own, if this is sent again because the reply was lost.
  return redis.call('HGET', KEYS[1], 'standby') == spec.fields.standby and 'changed' or 'taken'
end

-- Where the deployment stands in the list by model.
local function place()
  local now = redis.call('HMGET', KEYS[1], 'model', 'status')
  local group = '~'
  for _, each in ipairs(spec.live) do
    if now[2] == each then group = now[1] end
  end
  return group .. ' ' .. spec.list_member
end

local place_before = place()
if spec.is_revised then redis.call('HINCRBY', KEYS[1], 'revision', 1) end
if spec.call then redis.call('HSET', KEYS[1], 'changed_by', spec.call) end
for _, field in ipairs(spec.clear or {}) do redis.call('HDEL', KEYS[1], field) end
for field, value in pairs(spec.fields) do redis.call('HSET', KEYS[1], field, value) end
local place_now = place()
if place_now ~= place_before then redis.call('ZREM', KEYS[8], place_before) end
redis.call('ZADD', KEYS[8], 0, place_now)
if spec.event then
  redis.call('RPUSH', KEYS[5], spec.event)
  redis.call('LTRIM', KEYS[5], -100, -1)
end
if spec.assignment then redis.call('SET', KEYS[7], spec.assignment) end
if spec.spent_s then redis.call('EXPIRE', KEYS[9], spec.spent_s) end
if spec.forget_s then
  redis.call('SREM', KEYS[3], spec.member)
  redis.call('ZREM', KEYS[4], spec.list_member)
  redis.call('ZREM', KEYS[8], place_now)
  redis.call('DEL', KEYS[7])
  redis.call('EXPIRE', KEYS[1], spec.forget_s)
  redis.call('EXPIRE', KEYS[5], spec.forget_s)
end
redis.call('INCR', KEYS[6])
redis.call('PUBLISH', spec.channel, spec.message)
return 'changed'
