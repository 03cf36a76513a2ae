-- @include large

-- Sets fields of a hash: name, value, …
local function set_fields(key, fields)
  if #fields < 2 * FEW then
    if #fields > 0 then call('HSET', key, unpack(fields)) end
    return
  end
  call('HSET', key, LONG_FIELD, '', unpack(fields))
  call('HDEL', key, LONG_FIELD)
end
