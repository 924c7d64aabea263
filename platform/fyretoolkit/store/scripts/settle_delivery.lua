-- Log an attempt of a delivery and write what it led to, unless the sender had it no longer in its hands.
-- A delivery that somebody had sent again meanwhile is due again, whatever this attempt led to.
-- KEYS: 1 record, 2 its attempts, 3 outbox, 4 sending
-- ARGV: 1 JSON {member, token, fields, clear[], next_at?, attempt, kept}
-- Returns 'settled' | 'lost' (another sender has it, or had it) | 'missing' (it has expired).
local spec = cjson.decode(ARGV[1])
local is_ours = redis.call('HGET', KEYS[4], spec.member) == spec.token
if is_ours then redis.call('HDEL', KEYS[4], spec.member) end
local left_ms = redis.call('PTTL', KEYS[1])
if left_ms == -2 then return 'missing' end
redis.call('RPUSH', KEYS[2], spec.attempt)
redis.call('LTRIM', KEYS[2], -spec.kept, -1)
if left_ms > 0 then redis.call('PEXPIRE', KEYS[2], left_ms) end
if not is_ours then return 'lost' end
redis.call('HDEL', KEYS[1], 'place')
if redis.call('HDEL', KEYS[1], 'again') == 1 then
  redis.call('HSET', KEYS[1], 'status', 'pending', 'attempts', '0')
  redis.call('HDEL', KEYS[1], 'reason', 'next_at')
  redis.call('ZADD', KEYS[3], redis.call('TIME')[1], spec.member)
  return 'settled'
end
for field, value in pairs(spec.fields) do redis.call('HSET', KEYS[1], field, value) end
for _, field in ipairs(spec.clear) do redis.call('HDEL', KEYS[1], field) end
if spec.next_at then redis.call('ZADD', KEYS[3], spec.next_at, spec.member) end
return 'settled'
