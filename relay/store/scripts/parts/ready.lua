-- Puts a ticket where the next claim takes it first.
local function to_head(ticket, lifo)
  call(lifo and 'RPUSH' or 'LPUSH', READY[ticket % 4 + 1], ticket)
end
