-- Count one request of a key if the window has room for it. The log holds the moments (microseconds) of the admitted
-- requests of the last window, newest first; each enters it once and leaves it once, so a call costs O(1) amortised.
-- KEYS: 1 log
-- ARGV: 1 limit, 2 window (microseconds)
-- Returns {1 if admitted else 0, counted, oldest, when there is room for one more, now}
local limit, window = tonumber(ARGV[1]), tonumber(ARGV[2])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local function moment(index) return tonumber(redis.call('LINDEX', KEYS[1], index) or now) end

local ahead = 0  -- the clock was set back: what lies in its future counts from now
while moment(0) > now do
  redis.call('LPOP', KEYS[1])
  ahead = ahead + 1
end
for _ = 1, ahead do redis.call('LPUSH', KEYS[1], now) end
while moment(-1) + window <= now do redis.call('RPOP', KEYS[1]) end

local counted = redis.call('LLEN', KEYS[1])
if counted >= limit then return {0, counted, moment(-1), moment(limit - 1) + window, now} end
redis.call('LPUSH', KEYS[1], now)
redis.call('PEXPIRE', KEYS[1], math.ceil(window / 1000))
return {1, counted + 1, moment(-1), 0, now}
