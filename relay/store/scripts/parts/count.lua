local function count(field, by)
  if by > 0 then call('HINCRBY', CONTROL, field, by) end
end
