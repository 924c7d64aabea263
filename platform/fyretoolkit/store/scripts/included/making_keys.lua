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
