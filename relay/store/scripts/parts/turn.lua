-- The turn of a group that enters the rotation: behind all others. Claims count turns in CONTROL.
local function new_turn()
  return (call('HGET', CONTROL, 'turn') or 0) + 1
end
