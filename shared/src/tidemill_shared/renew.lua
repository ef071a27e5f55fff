-- Renew the lease (the idle time) of entries this consumer still owns. Without the owner check a stale worker's
-- heartbeat would steal an entry back from whoever took it over.
-- KEYS  one stream   ARGV  group, consumer, entry ids…   Returns the ids that are owned no longer.
local lost = {}
for i = 3, #ARGV do
  if #redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[i], ARGV[i], 1, ARGV[2]) > 0 then
    redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[i], 'JUSTID')
  else
    lost[#lost + 1] = ARGV[i]
  end
end
return lost
