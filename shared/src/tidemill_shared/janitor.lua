-- Remove consumers that hold nothing and have not been heard of for long: each replica that was replaced leaves one.
-- XGROUP DELCONSUMER drops what a consumer still holds, so looking and removing are one step.
-- KEYS  one stream   ARGV  group, idle time in ms   Returns how many were removed.
local gone = 0
for _, fields in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  local consumer = {}
  for i = 1, #fields, 2 do consumer[fields[i]] = fields[i + 1] end
  if consumer['pending'] == 0 and consumer['idle'] > tonumber(ARGV[2]) then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], consumer['name'])
    gone = gone + 1
  end
end
return gone
