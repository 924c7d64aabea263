-- The lines of the queue: of each organization with a job that waits or runs, and of those named, how many do, and when
-- a job of it left the queue last.
-- KEYS: 1 queued jobs, 2 running jobs, 3 last starts
-- ARGV: organizations to tell of in any case
-- Returns {organization, waiting, running, last start in ms or '0', ...}
local seen, lines = {}, {}
local function tell(org)
  if seen[org] then return end
  seen[org] = true
  local first, behind = '[' .. org .. ' ', '(' .. org .. '!'
  lines[#lines + 1] = org
  lines[#lines + 1] = redis.call('ZLEXCOUNT', KEYS[1], first, behind)
  lines[#lines + 1] = redis.call('ZLEXCOUNT', KEYS[2], first, behind)
  lines[#lines + 1] = redis.call('HGET', KEYS[3], org) or '0'
end
for key = 1, 2 do
  local from = '-'
  while true do
    local next = redis.call('ZRANGEBYLEX', KEYS[key], from, '+', 'LIMIT', 0, 1)[1]
    if not next then break end
    local org = string.match(next, '^[^ ]+')
    tell(org)
    from = '[' .. org .. '!'
  end
end
for _, org in ipairs(ARGV) do tell(org) end
return lines
