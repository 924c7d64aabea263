-- Make an organization's first secret, or put a new one in the place of the one that is there.
-- KEYS: 1 secret
-- ARGV: 1 JSON {secret, created, overlap_s?, kept}; without `overlap_s` a secret that is there stays.
-- What was replaced signs until its overlap ends; with an overlap of 0 nothing old does. This very call, sent again,
-- finds its own secret.
-- Returns {secret, created, JSON of the earlier ones, newest first, or ''}.
local spec = cjson.decode(ARGV[1])
local function stored() return redis.call('HMGET', KEYS[1], 'secret', 'created', 'earlier') end
local known = stored()
if not known[1] or (spec.overlap_s and known[1] ~= spec.secret) then
  local earlier = {}
  if known[1] and spec.overlap_s > 0 then
    earlier[1] = {secret = known[1], created = tonumber(known[2]), expires_at = spec.created + spec.overlap_s}
    for _, each in ipairs(cjson.decode(known[3] or '[]')) do
      if each.expires_at > spec.created and #earlier < spec.kept then earlier[#earlier + 1] = each end
    end
  end
  redis.call('HSET', KEYS[1], 'secret', spec.secret, 'created', spec.created)
  if #earlier > 0 then redis.call('HSET', KEYS[1], 'earlier', cjson.encode(earlier))
  else redis.call('HDEL', KEYS[1], 'earlier') end
  known = stored()
end
return {known[1], known[2], known[3] or ''}
