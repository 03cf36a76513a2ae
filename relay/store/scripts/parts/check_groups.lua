-- Checks the keys of groups (see check_types.lua).
for level = 1, 3 do
  call('ZCARD', WAITING[level])
  call('ZCARD', ROTATION[level])
end
call('HLEN', GROUPS)
call('ZCARD', GROUPS_DUE)
call('HLEN', GROUPS_IN_FLIGHT)
call('HLEN', GROUPS_TRIED)
