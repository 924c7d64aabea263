-- For scripts that make a key: `spec` is their argument, `now` Redis's clock in seconds.

-- How many keys of the organization work; the list is made anew if there is none.
local function count_active(active, all)
  if redis.call('EXISTS', active) == 0 then
    for _, id in ipairs(redis.call('ZRANGE', all, 0, -1)) do
      local key = redis.call('HMGET', spec.key_prefix .. id, 'revoked_at', 'expires_at')
      if not key[1] then redis.call('ZADD', active, key[2] or 'inf', id) end
    end
  end
  redis.call('ZREMRANGEBYSCORE', active, '-inf', now)
  return redis.call('ZCARD', active)
end

-- Let the new key end by then at the latest.
local function end_by(ends)
  if ends < tonumber(spec.fields.expires_at or math.huge) then
    spec.fields.expires_at = string.format('%d', ends)
  end
end

-- Of the keys that work no more, only the newest stay known. A hundred at most are forgotten at a time; `count_active` has
-- been asked before.
local function forget_ended(active, all, admins, operators)
  redis.call('ZREMRANGEBYSCORE', active, '-inf', now)
  local working = redis.call('ZCARD', active)
  local excess = math.min(redis.call('ZCARD', all) - working - spec.kept, 100)
  if excess <= 0 then return end
  for _, id in ipairs(redis.call('ZRANGE', all, 0, working + excess - 1)) do
    if excess > 0 and not redis.call('ZSCORE', active, id) then
      redis.call('DEL', spec.key_prefix .. id)
      redis.call('ZREM', all, id)
      redis.call('SREM', admins, id)
      redis.call('SREM', operators, id)
      excess = excess - 1
    end
  end
end
