-- Attach the output of a job that ended without it; the first one stays. An expired record stays expired.
-- KEYS: 1 record
-- ARGV: 1 JSON of fields
-- Returns 1 if the record is there, else 0.
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
for field, value in pairs(cjson.decode(ARGV[1])) do redis.call('HSETNX', KEYS[1], field, value) end
return 1
