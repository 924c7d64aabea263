-- Remove an organization's models, all of them.
-- KEYS: 1 list of `<order> <id>`
-- ARGV: 1 prefix of the records, 2 channel, 3 message
local members = redis.call('ZRANGE', KEYS[1], 0, -1)
for _, member in ipairs(members) do
  redis.call('DEL', ARGV[1] .. string.match(member, ' (.*)$'))
end
redis.call('DEL', KEYS[1])
if #members > 0 then redis.call('PUBLISH', ARGV[2], ARGV[3]) end
return #members
