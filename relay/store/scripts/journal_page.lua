-- Finds entries in a page of the journal, the newest first.
--
-- ARGV   1 query (MessagePack map): exact (array of {position, value}), text ('' for any; in lower case), since, until
--          (Unix seconds; 0: none)
--        2 the id before which the page begins; '+' for the first one
--        3 the most entries to read, 4 the most to return
-- reply  {the id before which the next page begins, '' if there is none, entry, …}
--
-- In Redis, because few of the entries that are read match.

local AT = 1
local SEARCHED = {2, 3, 6, 11, 12, 13, 15} -- the positions of texts (see relay/store/journal.py)
local call = redis.call

local query = cmsgpack.unpack(ARGV[1])
local most, matches = tonumber(ARGV[4]), {}

local function has_text(entry)
  for _, position in ipairs(SEARCHED) do
    local text = entry[position]
    if type(text) == 'string' and string.find(string.lower(text), query.text, 1, true) then return true end
  end
  return false
end

local function fits(packed)
  -- First those entries go that have the text nowhere, because decoding them would cost ten times as much.
  for _, pair in ipairs(query.exact) do
    if not string.find(packed, pair[2], 1, true) then return false end
  end
  if query.text ~= '' and not string.find(string.lower(packed), query.text, 1, true) then return false end
  local is_readable, entry = pcall(cmsgpack.unpack, packed)
  if not is_readable or type(entry) ~= 'table' or type(entry[AT]) ~= 'number' then return false end
  if query.since > 0 and entry[AT] < query.since or query.until_ > 0 and entry[AT] > query.until_ then return false end
  for _, pair in ipairs(query.exact) do
    if entry[pair[1]] ~= pair[2] then return false end
  end
  return query.text == '' or has_text(entry)
end

local start = ARGV[2]
local found = call('XREVRANGE', JOURNAL, start == '+' and start or '(' .. start, '-', 'COUNT', ARGV[3])
local next_id = #found == tonumber(ARGV[3]) and found[#found][1] or ''
for _, entry in ipairs(found) do
  local packed = entry[2][2]
  if fits(packed) then
    matches[#matches + 1] = packed
    if #matches == most then
      next_id = ''
      break
    end
  end
end
return {next_id, unpack(matches)}
