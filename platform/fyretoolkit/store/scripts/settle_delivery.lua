-- Log an attempt of a delivery and write what it led to, unless the sender had it no longer in its hands.
-- The next attempt is due `pause_s` after now by the clock of Redis, which is that of all claims.
-- A delivery that somebody had sent again meanwhile is due again, whatever this attempt led to.
-- KEYS: 1 record, 2 its attempts, 3 outbox, 4 sending
-- ARGV: 1 JSON {member, token, fields, clear[], pause_s?, attempt, kept}
-- Returns 'settled' | 'lost' (another sender has it, or had it) | 'missing' (it has expired).
local spec = cjson.decode(ARGV[1])
local time = redis.call('TIME')
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
  redis.call('ZADD', KEYS[3], time[1], spec.member)
  return 'settled'
end
for field, value in pairs(spec.fields) do redis.call('HSET', KEYS[1], field, value) end
for _, field in ipairs(spec.clear) do redis.call('HDEL', KEYS[1], field) end
if spec.pause_s then
  local next_at = string.format('%.3f', time[1] + time[2] / 1e6 + spec.pause_s)
  redis.call('HSET', KEYS[1], 'next_at', next_at)
  redis.call('ZADD', KEYS[3], next_at, spec.member)
end
return 'settled'
