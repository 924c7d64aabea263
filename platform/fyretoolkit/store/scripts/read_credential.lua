-- Read a key together with the plan and the maker of its organization, in one look.
-- KEYS: 1 key record
-- ARGV: 1 prefix of organization records
-- Returns {fields and values of the key (none if unknown), plan, organization that made it ('' where there is none)}
local org = redis.call('HGET', KEYS[1], 'org')
if not org then return {{}, '', ''} end
local found = redis.call('HMGET', ARGV[1] .. org, 'plan', 'created_by')
return {redis.call('HGETALL', KEYS[1]), found[1] or '', found[2] or ''}
