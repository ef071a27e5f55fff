-- The completion step: "is the entry still pending for this very consumer? then add every output, then acknowledge it;
-- else drop my output". One atomic step, so that a crash repeats work and never loses or doubles it.
--
-- KEYS  every key named below, by position
-- ARGV  group, consumer, mode ("each": entries stand alone; "all": all or nothing),
--       guard (position of a key, 0 for none), expected value ("" for absent),
--       positions of two sets of ids (0 for none), window in ms,
--       number of entries, then for each: stream position, entry id, id to be answered once ("" for none),
--       number of outputs, (stream position, body)…
--       number of writes, then for each: number of words after the command, command, key position, further words…
-- Returns the list of "stream position/entry id" that were refused because somebody else owns them, or the string
-- STALE when the guarded key has another value. Commands of Redis 6.2 only.
local group, consumer, mode = ARGV[1], ARGV[2], ARGV[3]
local guard = tonumber(ARGV[4])
if guard > 0 then
  local value = redis.call('GET', KEYS[guard]) or ''
  if value ~= ARGV[5] then return redis.status_reply('STALE') end
end
local at = 10
local entries = {}
for i = 1, tonumber(ARGV[9]) do
  local entry = {stream = tonumber(ARGV[at]), id = ARGV[at + 1], once = ARGV[at + 2], outputs = {}}
  local n = tonumber(ARGV[at + 3])
  at = at + 4
  for j = 1, n do
    entry.outputs[j] = {tonumber(ARGV[at]), ARGV[at + 1]}
    at = at + 2
  end
  entries[i] = entry
end
-- What this consumer owns: one range a stream answers for a contiguous batch; the rest is asked one by one.
local bounds = {}
for _, entry in ipairs(entries) do
  local b = bounds[entry.stream]
  if b then b.last = entry.id; b.n = b.n + 1 else bounds[entry.stream] = {first = entry.id, last = entry.id, n = 1} end
end
local owned = {}
for stream, b in pairs(bounds) do
  owned[stream] = {}
  for _, p in ipairs(redis.call('XPENDING', KEYS[stream], group, b.first, b.last, b.n + 64, consumer)) do
    owned[stream][p[1]] = true
  end
end
local refused, granted = {}, {}
for _, entry in ipairs(entries) do
  if owned[entry.stream][entry.id]
    or #redis.call('XPENDING', KEYS[entry.stream], group, entry.id, entry.id, 1, consumer) > 0 then
    granted[#granted + 1] = entry
  else
    refused[#refused + 1] = entry.stream .. '/' .. entry.id
  end
end
if mode == 'all' and #refused > 0 then return refused end
-- First writer wins. Two sets take turns by the server's clock, so that what they remember stays bounded.
local answered = {}
local marks = tonumber(ARGV[6])
if marks > 0 then
  local window = tonumber(ARGV[8])
  local now = redis.call('TIME')
  local turn = math.floor((now[1] * 1000 + math.floor(now[2] / 1000)) / window)
  local present, past = KEYS[tonumber(ARGV[6 + turn % 2])], KEYS[tonumber(ARGV[6 + (turn + 1) % 2])]
  if redis.call('SISMEMBER', present, '#' .. turn) == 0 then
    redis.call('UNLINK', present)
    redis.call('SADD', present, '#' .. turn)
    redis.call('PEXPIRE', present, window * 2)
  end
  local fresh = redis.call('SISMEMBER', past, '#' .. (turn - 1)) == 1
  local ids = {}
  for _, entry in ipairs(granted) do if entry.once ~= '' then ids[#ids + 1] = entry.once end end
  for first = 1, #ids, 4000 do
    local last = math.min(first + 3999, #ids)
    local here = redis.call('SMISMEMBER', present, unpack(ids, first, last))
    local before = fresh and redis.call('SMISMEMBER', past, unpack(ids, first, last)) or {}
    for i = first, last do
      if here[i - first + 1] == 1 or before[i - first + 1] == 1 then answered[ids[i]] = true end
    end
    redis.call('SADD', present, unpack(ids, first, last))
  end
end
local acknowledged = {}
for _, entry in ipairs(granted) do
  if entry.once ~= '' then
    if answered[entry.once] then entry.outputs = {} end
    answered[entry.once] = true
  end
  for _, output in ipairs(entry.outputs) do redis.call('XADD', KEYS[output[1]], '*', '__data__', output[2]) end
  local done = acknowledged[entry.stream]
  if done then done[#done + 1] = entry.id else acknowledged[entry.stream] = {entry.id} end
end
for stream, done in pairs(acknowledged) do
  for first = 1, #done, 4000 do
    redis.call('XACK', KEYS[stream], group, unpack(done, first, math.min(first + 3999, #done)))
  end
end
local writes = tonumber(ARGV[at])
at = at + 1
for _ = 1, writes do
  local n = tonumber(ARGV[at])
  local words = {KEYS[tonumber(ARGV[at + 2])]}
  for j = 1, n - 1 do words[#words + 1] = ARGV[at + 2 + j] end
  redis.call(ARGV[at + 1], unpack(words))
  at = at + 2 + n
end
return refused
