-- Trim a stream up to the lowest entry that some group still needs, and never what is younger than the retention.
-- One atomic step: between looking and trimming no group can be made or set back.
-- KEYS  one stream   ARGV  retention in ms, entries to remove at most   Returns how many were removed.
local function parts(id)
  local ms, seq = string.match(id, '^(%d+)%-(%d+)$')
  return tonumber(ms), tonumber(seq)
end
local function before(a, b)
  local a_ms, a_seq = parts(a)
  local b_ms, b_seq = parts(b)
  return a_ms < b_ms or (a_ms == b_ms and a_seq < b_seq)
end
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
local now = redis.call('TIME')
local bound = string.format('%.0f-0', math.max(now[1] * 1000 - tonumber(ARGV[1]), 0))
for _, fields in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  local group = {}
  for i = 1, #fields, 2 do group[fields[i]] = fields[i + 1] end
  local needed = group['last-delivered-id']
  if group['pending'] > 0 then needed = redis.call('XPENDING', KEYS[1], group['name'])[2] end
  if before(needed, bound) then bound = needed end
end
return redis.call('XTRIM', KEYS[1], 'MINID', '~', bound, 'LIMIT', ARGV[2])
