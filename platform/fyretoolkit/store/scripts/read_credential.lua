-- Read a key together with the plan of its organization, in one look.
-- KEYS: 1 key record
-- ARGV: 1 prefix of organization records
-- Returns {fields and values of the key (none if unknown), plan ('' if the organization has no record)}
local org = redis.call('HGET', KEYS[1], 'org')
if not org then return {{}, ''} end
return {redis.call('HGETALL', KEYS[1]), redis.call('HGET', ARGV[1] .. org, 'plan') or ''}
