-- Put archived entries back at the end of a stream that holds nothing else, as read and acknowledged by everybody.
-- One atomic step: no group can read them in between.
-- KEYS  one stream   ARGV  the entry before them ("0-0" for none), number of groups, groups…, then entry, body pairs
-- Returns how many were put back, or -1 when the stream has gone on meanwhile.
local last = '0-0'
if redis.call('EXISTS', KEYS[1]) == 1 then
  local info = redis.call('XINFO', 'STREAM', KEYS[1])
  for i = 1, #info, 2 do if info[i] == 'last-generated-id' then last = info[i + 1] end end
end
if last ~= ARGV[1] then return -1 end
local groups = tonumber(ARGV[2])
local count = 0
for i = 3 + groups, #ARGV, 2 do
  redis.call('XADD', KEYS[1], ARGV[i], '__data__', ARGV[i + 1])
  count = count + 1
end
for i = 3, 2 + groups do
  redis.pcall('XGROUP', 'CREATE', KEYS[1], ARGV[i], '$')
  redis.call('XGROUP', 'SETID', KEYS[1], ARGV[i], '$')
end
return count
