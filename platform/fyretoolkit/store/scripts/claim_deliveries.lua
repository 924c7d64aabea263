-- Take deliveries that are due into the hands of a sender, receivers and organizations in turn.
-- What is due moves from the outbox into its lane, one for each receiver of an organization. From the lanes it is taken
-- as far as the limits let it; a lane or an organization at its limit is passed over, and they are at most as many as
-- there are deliveries in hands, so a claim costs the same however much waits. What is in the hands of a sender that
-- was not heard of for a while is due again, sooner if its connection is gone too: nobody listens on its channel. So is
-- what is in anyone's beyond its lease, and what a sender has without knowing it: the answer to its claim was lost.
-- A claim that is sent twice has one answer. One that comes late, after a newer one of its sender, takes nothing: it
-- does not know what the newer one took.
-- KEYS: 1 outbox, 2 turns, 3 sending, 4 senders, 5 the sender's last claim
-- ARGV: 1 JSON {sender, number, channels, silence_ms, gone_ms, lease_ms, limit, of_organization, of_receiver,
--   deliveries, lanes, known? {member: true} of what the sender knows to be in its hands}
-- `deliveries`, `lanes`: the names of a record and of an organization's lanes, with %o for the organization and %d.
-- Returns {whether more is due, {member, token, fields}...}
local spec = cjson.decode(ARGV[1])
local last = tonumber(redis.call('GET', KEYS[5]) or 0)
if spec.number < last then return {0} end
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)

local function record_of(org, id) return (spec.deliveries:gsub('%%o', org):gsub('%%d', id)) end
local function lanes_of(org) return (spec.lanes:gsub('%%o', org)) end
local function to_the_back(turns, member)
  local last = redis.call('ZRANGE', turns, -1, -1, 'WITHSCORES')
  if last[1] ~= member then redis.call('ZADD', turns, (last[2] or 0) + 1, member) end
end

-- The connection sent this claim twice, and only one of the answers is heard, whichever came first: both are the same.
if spec.number == last and spec.known then
  local answer, sending = {1}, redis.call('HGETALL', KEYS[3])
  for i = 1, #sending, 2 do
    local org, id = sending[i]:match('^(%S+) (%S+)$')
    if sending[i + 1]:match('^(%S+) ') == spec.sender and not spec.known[sending[i]] then
      local fields = redis.call('HGETALL', record_of(org, id))
      if #fields > 0 then answer[#answer + 1] = {sending[i], sending[i + 1], fields} end
    end
  end
  return answer
end

local in_hands, of_organization, of_lane = 0, {}, {}
local function count(org, receiver)
  in_hands = in_hands + 1
  of_organization[org] = (of_organization[org] or 0) + 1
  of_lane[org .. ' ' .. receiver] = (of_lane[org .. ' ' .. receiver] or 0) + 1
end

local heard_ms, is_holding = {}, false
local senders = redis.call('HGETALL', KEYS[4])
for i = 1, #senders, 2 do
  heard_ms[senders[i]] = tonumber(senders[i + 1])
  if now_ms - senders[i + 1] > 60000 then redis.call('HDEL', KEYS[4], senders[i]) end
end
heard_ms[spec.sender] = now_ms

local is_dead = {}
local function has_died(sender)
  if is_dead[sender] == nil then
    local silence_ms = now_ms - (heard_ms[sender] or 0)
    is_dead[sender] = silence_ms > spec.silence_ms
      or (silence_ms > spec.gone_ms and redis.call('PUBSUB', 'NUMSUB', spec.channels .. sender)[2] == 0)
  end
  return is_dead[sender]
end

local sending = redis.call('HGETALL', KEYS[3])
for i = 1, #sending, 2 do
  local sender, until_ms, receiver = sending[i + 1]:match('^(%S+) (%d+) (.*)$')
  local is_lost = sender == spec.sender and spec.known and not spec.known[sending[i]]
  if is_lost or has_died(sender) or tonumber(until_ms) <= now_ms then
    redis.call('HDEL', KEYS[3], sending[i])
    redis.call('ZADD', KEYS[1], time[1], sending[i])
  else
    count(sending[i]:match('^(%S+) '), receiver)
    is_holding = is_holding or sender == spec.sender
  end
end

local due = redis.call('ZRANGE', KEYS[1], '-inf', string.format('%.3f', now_ms / 1000), 'BYSCORE', 'LIMIT', 0, 1000)
for _, member in ipairs(due) do
  redis.call('ZREM', KEYS[1], member)
  local org, id = member:match('^(%S+) (%S+)$')
  local url = redis.call('HGET', record_of(org, id), 'url')
  if url then
    local receiver = (url:match('^[^:]+://([^/?#]*)') or ''):lower()
    local lanes = lanes_of(org)
    redis.call('HSET', record_of(org, id), 'place', 'lane')
    redis.call('RPUSH', lanes .. ':' .. receiver, id)
    if not redis.call('ZSCORE', lanes, receiver) then to_the_back(lanes, receiver) end
    if not redis.call('ZSCORE', KEYS[2], org) then to_the_back(KEYS[2], org) end
  end
end

-- The next receiver of an organization that is below its limit. An organization may have as much as is left for others.
local function receiver_of(org)
  if (of_organization[org] or 0) >= math.min(spec.of_organization, spec.limit - in_hands) then return nil end
  local at = 0
  while true do
    local receiver = redis.call('ZRANGE', lanes_of(org), at, at)[1]
    if not receiver or (of_lane[org .. ' ' .. receiver] or 0) < spec.of_receiver then return receiver end
    at = at + 1
  end
end

local function take(org, receiver)
  local lanes = lanes_of(org)
  local lane = lanes .. ':' .. receiver
  local id = redis.call('LPOP', lane)
  if redis.call('EXISTS', lane) == 1 then to_the_back(lanes, receiver) else redis.call('ZREM', lanes, receiver) end
  if redis.call('EXISTS', lanes) == 1 then to_the_back(KEYS[2], org) else redis.call('ZREM', KEYS[2], org) end
  local fields = id and redis.call('HGETALL', record_of(org, id)) or {}
  if #fields == 0 then return nil end -- it has expired
  local token = string.format('%s %d %s', spec.sender, now_ms + spec.lease_ms, receiver)
  redis.call('HSET', record_of(org, id), 'place', 'sending')
  redis.call('HSET', KEYS[3], org .. ' ' .. id, token)
  count(org, receiver)
  is_holding = true
  return {org .. ' ' .. id, token, fields}
end

local answer, at = {#due == 1000 and 1 or 0}, 0
while in_hands < spec.limit do
  local org = redis.call('ZRANGE', KEYS[2], at, at)[1]
  if not org then break end
  local receiver = receiver_of(org)
  if receiver then answer[#answer + 1] = take(org, receiver) else at = at + 1 end
end
-- Only who has something in hands is missed: an idle look writes nothing.
if is_holding then
  redis.call('HSET', KEYS[4], spec.sender, string.format('%d', now_ms))
  redis.call('SET', KEYS[5], string.format('%d', spec.number), 'PX', spec.lease_ms + 60000)
end
return answer
