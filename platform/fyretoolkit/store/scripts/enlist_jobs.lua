-- Put each open job into the set where its status belongs; one step, so that none is put back that ends meanwhile.
-- KEYS: 1 open jobs, 2 queued jobs, 3 running jobs
-- ARGV: 1 key of a record, with '%s' for organization and job
for _, member in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  local org, job = string.match(member, '^([^ ]+) (.+)$')
  local status = redis.call('HGET', string.format(ARGV[1], org, job), 'status')
  if status == 'queued' then redis.call('ZADD', KEYS[2], 0, member) end
  if status == 'processing' then redis.call('ZADD', KEYS[3], 0, member) end
end
return 1
