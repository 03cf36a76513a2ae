-- The header of a record (see relay/store/record.py), or nil for a message that asks for nothing special.
local function header_of(record)
  local high, low = string.byte(record, 1, 2)
  if low == 0 and high == 0 then return nil end
  return cmsgpack.unpack(string.sub(record, 3, 2 + high * 256 + low))
end
