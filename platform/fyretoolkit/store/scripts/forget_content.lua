-- The content of a file without a record is off the disk: nothing remembers the file, and its bytes count no more.
-- KEYS: 1 files with content, 2 the organization's list, 3 its file sizes
-- ARGV: 1 member of the first, 2 id
redis.call('SREM', KEYS[1], ARGV[1])
redis.call('ZREM', KEYS[2], ARGV[2])
local size = redis.call('HGET', KEYS[3], ARGV[2])
if not size then return end
redis.call('HDEL', KEYS[3], ARGV[2])
redis.call('HINCRBY', KEYS[3], 'total', '-' .. size)
if redis.call('HLEN', KEYS[3]) == 1 then redis.call('DEL', KEYS[3]) end
