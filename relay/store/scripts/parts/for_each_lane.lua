-- Runs a script for several lanes of one Redis. An error in one of them does not stop the others.
--
-- KEYS   for each lane: the keys of the script
-- ARGV   1 the number of keys of a lane
--        2.. for each lane: the number of its arguments, arguments of the script
-- reply  for each lane: the reply of the script, or its error

local function run(KEYS, ARGV)
-- @script
end

local width, last, replies = tonumber(ARGV[1]), 1, {}
for lane = 1, #KEYS / width do
  local first = last + 2
  last = last + 1 + ARGV[last + 1]
  local keys, arguments = {unpack(KEYS, (lane - 1) * width + 1, lane * width)}, {unpack(ARGV, first, last)}
  local is_done, reply = pcall(run, keys, arguments)
  -- Redis 6.2 raises errors as text.
  if not is_done and type(reply) ~= 'table' then reply = {err = 'ERR ' .. reply} end
  replies[lane] = reply
end
return replies
