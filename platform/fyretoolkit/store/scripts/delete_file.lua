-- Take a file from its organization. It stays among the files whose content is on the disk until that is removed too.
-- KEYS: 1 record, 2 the organization's list
-- ARGV: 1 list member, 2 channel, 3 message
-- Returns 1, or 0 when there is no such file: this very call, sent before, may have taken it.
if redis.call('DEL', KEYS[1]) == 0 then return 0 end
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('PUBLISH', ARGV[2], ARGV[3])
return 1
