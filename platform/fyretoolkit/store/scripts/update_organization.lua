-- Change fields of an organization.
-- KEYS: 1 record
-- ARGV: 1 JSON of fields, 2 channel, 3 message
-- Returns 1, or 0 if there is no such organization.
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
for field, value in pairs(cjson.decode(ARGV[1])) do redis.call('HSET', KEYS[1], field, value) end
redis.call('PUBLISH', ARGV[2], ARGV[3])
return 1
