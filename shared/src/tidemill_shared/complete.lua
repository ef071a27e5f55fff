-- The completion step: "is the entry still pending for this very consumer? then add every output, then acknowledge it;
-- else drop my output". One atomic step, so that a crash repeats work and never loses or doubles it.
--
-- KEYS  every key named below, by position
-- ARGV  group, consumer, mode ("each": entries stand alone; "all": all or nothing),
--       guard (position of a key, 0 for none), expected value ("" for absent),
--       positions of two sets of ids (0 for none), window in ms,
--       number of streams, then for each: position, first and last entry id, number of entries,
--       number of groups of like entries, then for each: stream position, number of entries, 1 if they have ids to be
--       answered once (else 0), number of outputs an entry, position of each output, then columns: entry ids, ids to be
--       answered once, bodies of the first output, of the second…
--       number of writes, then for each: number of words after the command, command, key position, further words…
-- Columns go to commands of many words as they came: a table an entry would cost more than Redis's own work.
-- Returns the list of "stream position/entry id" that were refused because somebody else owns them, or the string
-- STALE when the guarded key has another value. Commands of Redis 6.2 only.
local call, group, consumer, mode = redis.call, ARGV[1], ARGV[2], ARGV[3]
local WORDS = 4000 -- of one command, which Lua's stack must hold
local guard = tonumber(ARGV[4])
if guard > 0 then
  local value = call('GET', KEYS[guard]) or ''
  if value ~= ARGV[5] then return redis.status_reply('STALE') end
end
-- What this consumer owns: one range a stream answers for a contiguous batch, and comes in its order; the rest is looked
-- up, and at last asked one by one.
local at, owned = 9, {}
for _ = 1, tonumber(ARGV[9]) do
  local stream = KEYS[tonumber(ARGV[at + 1])]
  local range = call('XPENDING', stream, group, ARGV[at + 2], ARGV[at + 3], ARGV[at + 4] + 64, consumer)
  owned[stream] = {range = range, next = 1}
  at = at + 4
end
local function owns(stream, id)
  local mine = owned[stream]
  local entry = mine.range[mine.next]
  if entry and entry[1] == id then
    mine.next = mine.next + 1
    return true
  end
  if not mine.ids then
    mine.ids = {}
    for _, p in ipairs(mine.range) do mine.ids[p[1]] = true end
  end
  return mine.ids[id] or #call('XPENDING', stream, group, id, id, 1, consumer) > 0
end
local groups, refused = {}, {}
at = at + 1
for g = 1, tonumber(ARGV[at]) do
  local position, n, outputs = ARGV[at + 1], tonumber(ARGV[at + 2]), {}
  local like = {stream = KEYS[tonumber(position)], once = ARGV[at + 3] == '1', outputs = outputs, words = ARGV}
  for j = 1, tonumber(ARGV[at + 4]) do outputs[j] = KEYS[tonumber(ARGV[at + 4 + j])] end
  local before, granted = at + 4 + #outputs, nil -- the entries that are ours, once one is not
  for i = before + 1, before + n do
    if owns(like.stream, ARGV[i]) then
      if granted then granted[#granted + 1] = i end
    else
      if not granted then
        granted = {}
        for k = before + 1, i - 1 do granted[#granted + 1] = k end
      end
      refused[#refused + 1] = position .. '/' .. ARGV[i]
    end
  end
  local columns = 1 + (like.once and 1 or 0) + #outputs
  at = before + columns * n
  like.n, like.before = n, before
  if granted then -- of what is left, the same columns
    like.n, like.before, like.words = #granted, 0, {}
    for column = 0, columns - 1 do
      for _, i in ipairs(granted) do like.words[#like.words + 1] = ARGV[i + column * n] end
    end
  end
  groups[g] = like
end
if mode == 'all' and #refused > 0 then return refused end
-- First writer wins. Two sets take turns by the server's clock, so that what they remember stays bounded.
local present, past
if ARGV[6] ~= '0' then
  local window = tonumber(ARGV[8])
  local now = call('TIME')
  local turn = math.floor((now[1] * 1000 + math.floor(now[2] / 1000)) / window)
  present, past = KEYS[tonumber(ARGV[6 + turn % 2])], KEYS[tonumber(ARGV[6 + (turn + 1) % 2])]
  if call('SISMEMBER', present, '#' .. turn) == 0 then
    call('UNLINK', present)
    call('SADD', present, '#' .. turn)
    call('PEXPIRE', present, window * 2)
  end
  if call('SISMEMBER', past, '#' .. (turn - 1)) == 0 then past = nil end
end
-- Remembers n ids that follow words[once]; returns those that had been answered before, or nil when all of them are new
-- and each comes once, as they nearly always do.
local function remember(words, once, n)
  local answered, found, added = {}, false, 0
  for low = once + 1, once + n, WORDS do
    local high = math.min(low + WORDS - 1, once + n)
    for _, set in ipairs({present, past}) do
      for i, known in ipairs(call('SMISMEMBER', set, unpack(words, low, high))) do
        if known == 1 then
          answered[words[low + i - 1]] = true
          found = true
        end
      end
    end
  end
  for low = once + 1, once + n, WORDS do -- only now: an id that comes twice here is not known from before
    added = added + call('SADD', present, unpack(words, low, math.min(low + WORDS - 1, once + n)))
  end
  return (found or added < n) and answered or nil
end
for _, like in ipairs(groups) do
  local words, n, outputs = like.words, like.n, like.outputs
  local ids, bodies = like.before, like.before + n
  local once = like.once and bodies
  local answered = once and remember(words, once, n)
  if once then bodies = bodies + n end
  for i = 1, n do
    if not (answered and answered[words[once + i]]) then
      for j = 1, #outputs do call('XADD', outputs[j], '*', '__data__', words[bodies + (j - 1) * n + i]) end
    end
    if answered then answered[words[once + i]] = true end
  end
  for low = 1, n, WORDS do
    local high = math.min(low + WORDS - 1, n)
    call('XACK', like.stream, group, unpack(words, ids + low, ids + high))
  end
end
at = at + 1
for _ = 1, tonumber(ARGV[at]) do
  local n = tonumber(ARGV[at + 1])
  local words = {KEYS[tonumber(ARGV[at + 3])]}
  for j = 1, n - 1 do words[#words + 1] = ARGV[at + 3 + j] end
  call(ARGV[at + 2], unpack(words))
  at = at + 2 + n
end
return refused
