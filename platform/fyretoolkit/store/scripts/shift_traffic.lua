-- Change the traffic of several deployments of one model in one step, or of none.
-- KEYS: 1 routes version; then for each deployment its record and its events
-- ARGV: 1 JSON {live[], updated, channel, deployments: [{revision, traffic?, event, message, replaced?}]}, in that order
-- A deployment that is not live any more, or was changed since it was read, refuses all; one without `traffic`, which is
-- not changed itself, too. `replaced` is written if it is there, and removed if it is ''.
-- Returns 'changed' | 'revised'
local spec = cjson.decode(ARGV[1])
for index, each in ipairs(spec.deployments) do
  local found = redis.call('HMGET', KEYS[2 * index], 'status', 'revision')
  local legal = false
  for _, status in ipairs(spec.live) do legal = legal or status == found[1] end
  if not legal or (found[2] or '0') ~= each.revision then return 'revised' end
end
for index, each in ipairs(spec.deployments) do
  if each.traffic then
    local record, events = KEYS[2 * index], KEYS[2 * index + 1]
    redis.call('HSET', record, 'traffic', each.traffic, 'updated', spec.updated)
    redis.call('HINCRBY', record, 'revision', 1)
    if each.replaced == '' then
      redis.call('HDEL', record, 'replaced')
    elseif each.replaced then
      redis.call('HSET', record, 'replaced', each.replaced)
    end
    redis.call('RPUSH', events, each.event)
    redis.call('LTRIM', events, -100, -1)
    redis.call('PUBLISH', spec.channel, each.message)
  end
end
redis.call('INCR', KEYS[1])
return 'changed'
