-- A run renews its lease and writes fields of its job; refused when the run is fenced off or the job ended.
-- KEYS: 1 record
-- ARGV: 1 epoch, 2 lease (ms), 3 JSON of fields
-- Returns 1, or 0 when the run must stop.
local job = redis.call('HMGET', KEYS[1], 'status', 'epoch')
if job[1] ~= 'processing' or job[2] ~= ARGV[1] then return 0 end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('HSET', KEYS[1],
  'seen_ms', string.format('%d', now), 'lease_until', string.format('%d', now + ARGV[2]))
for field, value in pairs(cjson.decode(ARGV[3])) do redis.call('HSET', KEYS[1], field, value) end
return 1
