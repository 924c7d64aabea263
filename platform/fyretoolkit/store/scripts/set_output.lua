-- Attach the output of a job that ended without it. The first one stays, unless it lacks `delivered` and this one has
-- it: what is at the job's destination must be known to be there. An expired record stays expired.
-- KEYS: 1 record
-- ARGV: 1 the output, JSON
-- Returns 1 if the record is there, else 0.
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
local current = redis.call('HGET', KEYS[1], 'output')
if not current or (not cjson.decode(current).delivered and cjson.decode(ARGV[1]).delivered) then
  redis.call('HSET', KEYS[1], 'output', ARGV[1])
end
return 1
