-- Give a job's next epoch to a new run, unless a living run holds the lease.
-- KEYS: 1 record, 2 queued jobs
-- ARGV: 1 lease (ms), 2 epoch known to be dead ('' if none), 3 now (s) for `started`, 4 channel, 5 message, 6 job
-- Returns the epoch, or 0 when the job is not to be claimed.
local job = redis.call('HMGET', KEYS[1], 'status', 'epoch', 'lease_until')
local status, epoch, lease_until = job[1], job[2], tonumber(job[3] or '0')
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if status == 'processing' then
  if lease_until > now and epoch ~= ARGV[2] then return 0 end
elseif status ~= 'queued' then
  return 0
end
epoch = redis.call('HINCRBY', KEYS[1], 'epoch', 1)
redis.call('HINCRBY', KEYS[1], 'runs', 1)
redis.call('HSETNX', KEYS[1], 'started', ARGV[3])
redis.call('HSET', KEYS[1], 'status', 'processing',
  'seen_ms', string.format('%d', now), 'lease_until', string.format('%d', now + ARGV[1]))
redis.call('ZREM', KEYS[2], ARGV[6])
redis.call('PUBLISH', ARGV[4], ARGV[5])
return epoch
