-- Writes messages that end in a script into the journal (see relay/store/journal.py): so many a second, because a queue
-- may repeat a million ids. A journal that cannot be written stops no message.
--
-- `policy.journal`: {the most entries, entries a second (0: any number)}; nil: there is no journal.
local LONGEST_REASON = 200
local BINARY = {[196] = 1, [197] = 2, [198] = 4} -- MessagePack's types of bytes: how many bytes their length takes

local journal_left -- entries that the present second allows

local function may_journal()
  local rules = policy.journal
  if not rules then return false end
  if rules[2] == 0 then return true end
  local second = string.format('%.0f', math.floor(NOW / 1000))
  if not journal_left then
    local known, used = unpack(call('HMGET', CONTROL, 'journal_second', 'journal_used'))
    journal_left = rules[2] - (known == second and tonumber(used) or 0)
  end
  if journal_left <= 0 then return false end
  journal_left = journal_left - 1
  call('HSET', CONTROL, 'journal_second', second, 'journal_used', rules[2] - journal_left)
  return true
end

-- The fields of a message (see relay/message/message.py) by position, without the payload, which cmsgpack cannot read.
local function message_of(record)
  local high, low = string.byte(record, 1, 2)
  local first = 3 + high * 256 + low
  local count = string.byte(record, first)
  local start = first -- the offset of what follows the byte at this place
  if count == 220 then
    local big, small = string.byte(record, first + 1, first + 2)
    count, start = big * 256 + small, first + 2
  else
    count = count - 144
  end
  local offset, id, queue = cmsgpack.unpack_limit(record, 2, start)
  local size, length = BINARY[string.byte(record, offset + 1)], 0
  for index = 1, size do length = length * 256 + string.byte(record, offset + 1 + index) end
  local fields = {cmsgpack.unpack_limit(record, count - 3, offset + 1 + size + length)}
  fields[1] = '' -- the offset; from now on, as there: priority is field 4
  table.insert(fields, 1, queue)
  table.insert(fields, 1, id)
  return fields
end

local function journal(record, outcome, reason, attempts, status)
  if not may_journal() then return end
  pcall(function()
    local message = message_of(record)
    local created, deliver = message[5] or 0, message[7] or 0
    local waited = math.max(0, NOW / 1000 - math.max(created, deliver))
    local entry = {
      NOW / 1000, message[1], message[17] or '', outcome, status or 0, string.sub(reason, 1, LONGEST_REASON), tonumber(attempts) or 0,
      waited, 0, '', message[9] or '', message[8] or '', '', message[11] or '',
    }
    redis.pcall('XADD', JOURNAL, 'MAXLEN', '~', policy.journal[1], '*', 'entry', cmsgpack.pack(entry))
  end)
end
