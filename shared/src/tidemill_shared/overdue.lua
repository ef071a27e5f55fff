-- Which streams hold entries whose lease has run out: one round trip for the lanes of many pipelines.
-- KEYS  streams of one slot   ARGV  group, lease in ms   Returns positions in KEYS.
local overdue = {}
for i = 1, #KEYS do
  local pending = redis.pcall('XPENDING', KEYS[i], ARGV[1], 'IDLE', ARGV[2], '-', '+', 1)
  if not pending.err and #pending > 0 then -- an error: the group has vanished, and whoever reads makes it again
    overdue[#overdue + 1] = i
  end
end
return overdue
