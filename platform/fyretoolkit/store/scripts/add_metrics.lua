-- Add the traffic that a recorder counted to the buckets of the time it happened, once: a batch that is sent again,
-- because its answer was lost, changes nothing. Buckets that nobody could ask for any more are left out.
-- KEYS: 1 the recorder's last batch
-- ARGV: 1 number of the batch, 2 how long to remember it (s), 3 JSON [[bucket_s, kept_s], ..],
--       then for each tally: prefix of its buckets, its age (s), the tally as JSON
-- Returns 1 if it was added, 0 if it had been before.
if tonumber(ARGV[1]) <= tonumber(redis.call('GET', KEYS[1]) or '0') then return 0 end
-- A histogram's counts are a list that begins at bucket `from`.
local function add_counts(held, new)
  if #new.counts == 0 then return end
  if #held.counts == 0 then
    held.from, held.counts = new.from, new.counts
    return
  end
  local first = math.min(held.from, new.from)
  local last = math.max(held.from + #held.counts, new.from + #new.counts) - 1
  local counts = {}
  for bucket = first, last do
    counts[bucket - first + 1] = (held.counts[bucket - held.from + 1] or 0) + (new.counts[bucket - new.from + 1] or 0)
  end
  held.from, held.counts = first, counts
end
local function add(bucket, tally)
  for name, value in pairs(tally) do
    if type(value) == 'table' and value.counts then
      local held = bucket[name]
      held.sum, held.max = held.sum + value.sum, math.max(held.max, value.max)
      held.zeros = held.zeros + value.zeros
      add_counts(held, value)
    elseif type(value) == 'table' then
      add(bucket[name], value)
    else
      bucket[name] = (bucket[name] or 0) + value
    end
  end
end
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local resolutions = cjson.decode(ARGV[3])
for i = 4, #ARGV, 3 do
  local happened = now - ARGV[i + 1]
  for _, resolution in ipairs(resolutions) do
    local start = math.floor(happened / resolution[1]) * resolution[1]
    local expires = start + resolution[2]
    if expires > now then
      local key = string.format('%s%d:%d', ARGV[i], resolution[1], start)
      local held = redis.call('GET', key)
      local text = ARGV[i + 2]
      if held then
        local bucket = cjson.decode(held)
        add(bucket, cjson.decode(text))
        text = cjson.encode(bucket)
      end
      redis.call('SET', key, text, 'EXAT', string.format('%d', expires))
    end
  end
end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
return 1
