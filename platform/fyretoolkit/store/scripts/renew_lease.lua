-- One replica's report on a key's tokens, and its new lease. At no moment do the tokens that count exceed the limit.
-- Fields of the ledger: 'spent:<until>' -> uses that count until then; 'lease:<replica>' -> '<held> <end> <sequence>',
-- which count for a window beyond the lease's end, since the last of them may be used then. Times in microseconds.
-- In a ledger of more than MANY fields, uses that leave within one slot leave together, at its end.
-- A report that arrives twice is counted once; one that a newer report of the same replica has overtaken, not at all.
-- KEYS: 1 ledger
-- ARGV: 1 replica, 2 sequence, 3 limit, 4 window, 5 lease, 6 slot, 7 spent, 8 microseconds since the last of them,
--       9 kept, 10 waiting, 11 ahead, 12 share (at most one in so many free tokens goes ahead of demand)
-- Returns {held, free, when the oldest uses leave or 0, when a token becomes free, now}; that is 0 if one is free, and
-- if only this replica's own tokens are in the way, of which the next report will tell.
local MANY = 240
local own, a = 'lease:' .. ARGV[1], {}
for i = 2, #ARGV do a[i] = tonumber(ARGV[i]) end
local sequence, limit, window, lease = a[2], a[3], a[4], a[5]
local spent, ago, kept, waiting, ahead, share = a[7], a[8], a[9], a[10], a[11], a[12]
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

local ledger = redis.call('HGETALL', KEYS[1])
local slot = #ledger > 2 * MANY and a[6] or 1

local total, oldest, moments, seen = 0, 0, {}, -1
local function count(tokens, until_at, is_spent)
  total = total + tokens
  moments[#moments + 1] = {until_at, tokens}
  if is_spent and (oldest == 0 or until_at < oldest) then oldest = until_at end
end
local function spend(tokens, until_at)
  local left_at = math.ceil(until_at / slot) * slot
  if left_at <= now then return end
  redis.call('HINCRBY', KEYS[1], string.format('spent:%.0f', left_at), tokens)
  count(tokens, left_at, true)
end

for i = 1, #ledger, 2 do
  local field, value = ledger[i], ledger[i + 1]
  local spent_until = tonumber(string.match(field, '^spent:(%d+)$'))
  if spent_until then
    if spent_until <= now then
      redis.call('HDEL', KEYS[1], field)
    elseif spent_until > now + window + a[6] then  -- the clock was set back: they count from now
      redis.call('HDEL', KEYS[1], field)
      spend(tonumber(value), now + window)
    else
      count(tonumber(value), spent_until, true)
    end
  else
    local held, ends, known = string.match(value, '^(%d+) (%d+) (%d+)$')
    ends = tonumber(ends)
    if field == own then
      seen = tonumber(known)
    elseif ends + window <= now then
      redis.call('HDEL', KEYS[1], field)
    else
      if ends > now + lease then
        ends = now + lease
        redis.call('HSET', KEYS[1], field, string.format('%s %.0f %s', held, ends, known))
      end
      count(tonumber(held), ends + window, false)
    end
  end
end
if seen > sequence then return {0, 0, 0, 0, now} end
if seen < sequence and spent > 0 then spend(spent, now - ago + window) end

local free = limit - total
local held = math.max(0, math.min(math.max(kept, waiting), free))
held = math.max(held, math.min(waiting + ahead, held + math.floor((free - held) / share)))
free = free - held
redis.call('HSET', KEYS[1], own, string.format('%d %.0f %d', held, now + lease, sequence))
redis.call('PEXPIRE', KEYS[1], math.ceil((window + lease + a[6]) / 1000))

local room = 0
if free <= 0 then
  table.sort(moments, function(one, other) return one[1] < other[1] end)
  local missing = 1 - free
  for _, each in ipairs(moments) do
    missing = missing - each[2]
    if missing <= 0 then
      room = each[1]
      break
    end
  end
end
return {held, free, oldest, room, now}
