-- Commit one shard: its part becomes output and its counts progress, once, by the newest run alone.
-- `runs` counts the runs since the last commit: a job that gets on, however often it is killed, is not given up.
-- KEYS: 1 record, 2 shards
-- ARGV: 1 epoch, 2 shard, 3 JSON of the part, 4 succeeded, 5 failed
-- Returns 'committed' | 'duplicate' | 'fenced'
local job = redis.call('HMGET', KEYS[1], 'status', 'epoch')
if job[1] ~= 'processing' or job[2] ~= ARGV[1] then return 'fenced' end
if redis.call('HSETNX', KEYS[2], ARGV[2], ARGV[3]) == 0 then return 'duplicate' end
redis.call('HINCRBY', KEYS[1], 'succeeded', ARGV[4])
redis.call('HINCRBY', KEYS[1], 'failed', ARGV[5])
redis.call('HSET', KEYS[1], 'runs', 0)
return 'committed'
