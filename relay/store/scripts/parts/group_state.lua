-- The stored state of a group; nil if it cannot be read, because one group must not stop the others.
local function state_of(packed)
  local fine, state = pcall(cmsgpack.unpack, packed)
  return fine and type(state) == 'table' and state or nil
end
