-- The start of a header that names a fan-out, whose target the message is, and at most a group (see
-- relay/store/record.py).
local ONLY_TARGET = '\153\192\192\192\192\192\192'

-- The end of such a header tells fan-outs apart: all digits of the ticket, and the byte before them, which is none.
local TICKET_LENGTH = 16

local live_targets = {} -- ends of headers whose fan-outs let their targets go
