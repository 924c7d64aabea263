-- Begin a delivery anew, at once: from its end, or before the next attempt is due.
-- One that is in a lane or in a sender's hands is on its way already; after the attempt under way there is another.
-- KEYS: 1 record, 2 outbox
-- ARGV: 1 JSON {from[], member, channel, message}
-- Returns 'changed' | 'missing' | the status that stood in the way.
local spec = cjson.decode(ARGV[1])
local found = redis.call('HMGET', KEYS[1], 'status', 'place')
if not found[1] then return 'missing' end
local legal = false
for _, from in ipairs(spec.from) do legal = legal or from == found[1] end
if not legal then return found[1] end
redis.call('HSET', KEYS[1], 'status', 'pending', 'attempts', '0')
redis.call('HDEL', KEYS[1], 'reason', 'next_at')
if found[2] == 'sending' then
  redis.call('HSET', KEYS[1], 'again', '1')
elseif found[2] ~= 'lane' then
  redis.call('ZADD', KEYS[2], redis.call('TIME')[1], spec.member)
end
redis.call('PUBLISH', spec.channel, spec.message)
return 'changed'
