-- Give a job its one terminal status, with the outbox row of its webhook in the same step.
-- A job of which a run began is noted, so that somebody assembles what it committed and frees what nobody reads.
-- KEYS: 1 record, 2 shards, 3 open jobs, 4 delivery ('' if no webhook), 5 outbox, 6 unassembled jobs,
--   7 queued jobs, 8 running jobs, 9 the job's deliveries
-- ARGV: 1 JSON {from[], fields, epoch?, member, ttl_s, delivery?, delivery_member?, delivery_message?, channel,
--   message}
-- Returns 'changed' | 'fenced' | 'missing' | the status that stood in the way.
local spec = cjson.decode(ARGV[1])
local job = redis.call('HMGET', KEYS[1], 'status', 'epoch')
if not job[1] then return 'missing' end
if spec.epoch and job[2] ~= spec.epoch then return 'fenced' end
local legal = false
for _, from in ipairs(spec.from) do legal = legal or from == job[1] end
if not legal then return job[1] end
for field, value in pairs(spec.fields) do redis.call('HSET', KEYS[1], field, value) end
redis.call('SREM', KEYS[3], spec.member)
redis.call('ZREM', KEYS[7], spec.member)
redis.call('ZREM', KEYS[8], spec.member)
redis.call('EXPIRE', KEYS[1], spec.ttl_s)
redis.call('EXPIRE', KEYS[2], spec.ttl_s)
if tonumber(job[2] or '0') > 0 then redis.call('SADD', KEYS[6], spec.member) end
if KEYS[4] ~= '' then
  local time = redis.call('TIME')
  for field, value in pairs(spec.delivery) do redis.call('HSET', KEYS[4], field, value) end
  redis.call('EXPIRE', KEYS[4], spec.ttl_s)
  redis.call('ZADD', KEYS[5], time[1], spec.delivery_member)
  redis.call('ZADD', KEYS[9], 0, spec.delivery.id)
  redis.call('EXPIRE', KEYS[9], spec.ttl_s)
  redis.call('PUBLISH', spec.channel, spec.delivery_message)
end
redis.call('PUBLISH', spec.channel, spec.message)
return 'changed'
