-- Reads a page of dead letters, and returns those that may match a filter. Read only.
--
-- @key STREAM  the dead letters
-- ARGV   1 where the page begins, as in XRANGE
--        2 where the pages end: '' for the newest letter, milliseconds, or an id that an earlier page has returned
--        3 the most letters to read, 4 bytes after which the page is full
--        5 bytes of a malformed element that are returned; the rest is cut off
--        6 filter (MessagePack map): statuses ({lowest, highest}; nil: any), reason and text (arrays of texts in lower
--          case, one of which must occur; empty: any), parts (array of texts that must all occur in the letter)
--        7 'whole', or 'brief': only reason, status and attempts
-- reply  {where the next page begins, '' if there is none; where the pages end; letter, …}
--        letter: {id, length of the raw element, field, value, …}
--
-- A script, because an element may be a thousand times as large as a page: it is cut before it travels. Redis serves
-- no other client meanwhile, so a page is small.

local MOST_SEARCHED = 65536 -- bytes of an element that are searched

local start, last = ARGV[1], ARGV[2]
local most, full, longest = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local filter, brief = cmsgpack.unpack(ARGV[6]), ARGV[7] == 'brief'
local BRIEF = {reason = true, status = true, attempts = true}

if not string.find(last, '-', 1, true) then
  -- Letters that are added from now on belong to no page.
  local newest = redis.call('XREVRANGE', STREAM, '+', '-', 'COUNT', 1)[1]
  if not newest then return {'', '0-0'} end
  local at = tonumber(string.match(newest[1], '^%d+'))
  last = (last == '' or at <= tonumber(last)) and newest[1] or last .. '-18446744073709551615'
end

local function has_one(texts, wanted)
  if #wanted == 0 then return true end
  for _, text in ipairs(texts) do
    if text then
      local lower = string.lower(string.sub(text, 1, MOST_SEARCHED))
      for _, word in ipairs(wanted) do
        if string.find(lower, word, 1, true) then return true end
      end
    end
  end
  return false
end

local function may_match(id, letter)
  if filter.statuses then
    local status = tonumber(letter.status) or 0
    if status < filter.statuses[1] or status > filter.statuses[2] then return false end
  end
  if not has_one({letter.reason}, filter.reason) then return false end
  local content = letter.record or letter.raw or ''
  for _, part in ipairs(filter.parts) do
    if id ~= part and not string.find(content, part, 1, true) then return false end
  end
  return has_one({content, letter.reason, letter.body, letter.queue or ''}, filter.text)
end

local page, size, read = {}, 0, 0
local next_start = start
while read < most and size < full do
  local entry = redis.call('XRANGE', STREAM, next_start, last, 'COUNT', 1)[1]
  if not entry then
    next_start = ''
    break
  end
  local id, fields = entry[1], entry[2]
  read, next_start = read + 1, '(' .. id
  local named = {}
  for index = 1, #fields, 2 do
    named[fields[index]] = fields[index + 1]
    size = size + math.min(#fields[index + 1], longest)
  end
  if may_match(id, named) then
    local letter = {id, named.raw and #named.raw or 0}
    for index = 1, #fields, 2 do
      local name, value = fields[index], fields[index + 1]
      if name == 'raw' then value = string.sub(value, 1, longest) end
      if not brief or BRIEF[name] then
        letter[#letter + 1] = name
        letter[#letter + 1] = value
      end
    end
    page[#page + 1] = letter
  end
end
return {next_start, last, unpack(page)}
