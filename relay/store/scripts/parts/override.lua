-- The rates of an operator, which replace the configured ones until they end (see store/override.py).
-- Reads them from `override`; `rates` and `override_ends` (Unix ms; nil: no end, or no override) are the result.
local readable, order = pcall(cjson.decode, override)
local ends = readable and type(order) == 'table' and tonumber(order['until'])
if ends and ends > 0 and ends <= NOW then
  call('HDEL', CONTROL, 'override')
elseif ends and type(order.rates) == 'table' then
  local found = {}
  for index, rate in ipairs(order.rates) do
    local name, per_second, burst = unpack(type(rate) == 'table' and rate or {})
    per_second, burst = tonumber(per_second), tonumber(burst)
    if type(name) == 'string' and per_second and per_second > 0 and burst and burst >= 1 then
      found[#found + 1] = {name, per_second, burst}
      fields[FIXED_FIELDS + #found] = 'bucket:' .. name
    end
  end
  if #found > 0 then
    rates, override_ends = found, ends > 0 and ends or nil
    local saved = call('HMGET', CONTROL, unpack(fields, FIXED_FIELDS + 1, FIXED_FIELDS + #found))
    for index, value in ipairs(saved) do control[FIXED_FIELDS + index] = value end
    for _, rate in ipairs(found) do slowest = math.min(slowest or rate[2], rate[2]) end
  end
end
