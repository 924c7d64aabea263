-- Attach the output of a job that ended without it, and forget that it was missing. An expired record stays expired.
-- KEYS: 1 record, 2 unassembled jobs
-- ARGV: 1 member, 2 JSON of fields (none: there is nothing to attach)
-- Returns 1 if the record is there, else 0.
redis.call('SREM', KEYS[2], ARGV[1])
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
for field, value in pairs(cjson.decode(ARGV[2])) do redis.call('HSET', KEYS[1], field, value) end
return 1
