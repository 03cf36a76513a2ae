-- Moves entries out of an outbox that hold no letter, so that they hold up no others.
--
-- @key OUTBOX
-- @key UNREADABLE  the stream of its unreadable entries
-- @key CONTROL     the lane's control hash
-- ARGV   1.. ids of the entries
-- reply  how many were moved
--
-- Atomic because an entry must be in one of the two streams.

local MOST = 1000
local LONGEST = 4096
local call = redis.call

local kind = call('TYPE', UNREADABLE).ok
local moved = 0
for _, id in ipairs(ARGV) do
  local entry = call('XRANGE', OUTBOX, id, id)[1]
  if entry then
    -- First, so that under maxmemory the rest is not refused (see parts/lane.lua).
    call('XDEL', OUTBOX, id)
    if kind == 'none' or kind == 'stream' then
      local text = string.sub(table.concat(entry[2], ' '), 1, LONGEST)
      call('XADD', UNREADABLE, 'MAXLEN', '~', MOST, '*', 'entry', id, 'fields', text)
    end
    moved = moved + 1
  end
end
if moved > 0 then redis.pcall('HINCRBY', CONTROL, 'outbox_lost', moved) end
return moved
