-- Give a job's next epoch to a new run, unless a living run holds the lease.
-- KEYS: 1 record, 2 queued jobs, 3 running jobs, 4 last starts, 5 runners that stand by, 6 the run of the one that is to
--   have it ('' if the run gets a runner of its own)
-- ARGV: 1 JSON {lease_ms, dead_epoch?, now (s) for `started`, org, job, member, channel, message,
--   runner? {name, member (of the set of those that stand by), ttl_s}}
-- Returns the epoch, 0 when the job is not to be claimed, or -1 when that runner does not stand by any more.
local spec = cjson.decode(ARGV[1])
local job = redis.call('HMGET', KEYS[1], 'status', 'epoch', 'lease_until')
local status, epoch, lease_until = job[1], job[2], tonumber(job[3] or '0')
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if status == 'processing' then
  if lease_until > now and epoch ~= spec.dead_epoch then return 0 end
elseif status ~= 'queued' then
  redis.call('ZREM', KEYS[2], spec.member)
  redis.call('ZREM', KEYS[3], spec.member)
  return 0
end
if spec.runner and redis.call('ZREM', KEYS[5], spec.runner.member) == 0 then return -1 end
epoch = redis.call('HINCRBY', KEYS[1], 'epoch', 1)
redis.call('HINCRBY', KEYS[1], 'runs', 1)
redis.call('HSETNX', KEYS[1], 'started', spec.now)
redis.call('HSET', KEYS[1], 'status', 'processing',
  'seen_ms', string.format('%d', now), 'lease_until', string.format('%d', now + spec.lease_ms))
if spec.runner then
  redis.call('HSET', KEYS[1], 'runner', spec.runner.name)
  redis.call('DEL', KEYS[6])
  redis.call('RPUSH', KEYS[6], cjson.encode({org = spec.org, job = spec.job, epoch = epoch}))
  redis.call('EXPIRE', KEYS[6], spec.runner.ttl_s)
else
  redis.call('HDEL', KEYS[1], 'runner')
end
redis.call('ZREM', KEYS[2], spec.member)
redis.call('ZADD', KEYS[3], 0, spec.member)
if status == 'queued' then redis.call('HSET', KEYS[4], spec.org, string.format('%d', now)) end
redis.call('PUBLISH', spec.channel, spec.message)
return epoch
