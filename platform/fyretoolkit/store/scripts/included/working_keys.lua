-- For scripts that look whether keys work: `now` is the clock that they go by, in seconds.

-- When a key that works ends (seconds; math.huge: never), or nil if it does not work.
local function end_of_key(record)
  local key = redis.call('HMGET', record, 'id', 'revoked_at', 'expires_at')
  local ends = tonumber(key[3] or math.huge)
  if key[1] and not key[2] and ends > now then return ends end
end

-- Whether no admin key but this one works until then.
local function is_last_admin(admins, prefix, own, ends)
  for _, id in ipairs(redis.call('SMEMBERS', admins)) do
    if id ~= own and (end_of_key(prefix .. id) or 0) >= ends then return false end
  end
  return true
end
