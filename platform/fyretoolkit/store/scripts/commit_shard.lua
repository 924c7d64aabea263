-- Commit one shard, once, by the newest run alone. Progress counts the rows of the committed shards before the first gap:
-- those that can be read while the job runs, and those that are its output if it ends before its last shard.
-- `runs` counts the runs since the last commit: a job that gets on, however often it is killed, is not given up.
-- KEYS: 1 record, 2 shards
-- ARGV: 1 epoch, 2 shard, 3 JSON {succeeded, failed, part}
-- Returns 'committed' | 'duplicate' | 'fenced'
local job = redis.call('HMGET', KEYS[1], 'status', 'epoch', 'prefix')
if job[1] ~= 'processing' or job[2] ~= ARGV[1] then return 'fenced' end
if redis.call('HSETNX', KEYS[2], ARGV[2], ARGV[3]) == 0 then return 'duplicate' end
redis.call('HSET', KEYS[1], 'runs', 0)
if not job[3] then -- a job from before prefixes: its progress is counted anew
  redis.call('HSET', KEYS[1], 'succeeded', 0, 'failed', 0)
end
local prefix, succeeded, failed = tonumber(job[3] or '0'), 0, 0
local text = redis.call('HGET', KEYS[2], string.format('%d', prefix))
while text do
  local counts = cjson.decode(text)
  succeeded, failed, prefix = succeeded + counts.succeeded, failed + counts.failed, prefix + 1
  text = redis.call('HGET', KEYS[2], string.format('%d', prefix))
end
redis.call('HSET', KEYS[1], 'prefix', string.format('%d', prefix))
redis.call('HINCRBY', KEYS[1], 'succeeded', string.format('%d', succeeded))
redis.call('HINCRBY', KEYS[1], 'failed', string.format('%d', failed))
return 'committed'
