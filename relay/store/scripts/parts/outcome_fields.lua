-- The kinds of outcomes, and the positions of their fields (see relay/store/codec.py).
local TICKET = 1
local FENCING_TOKEN = 2
local KIND = 3

-- Delivered, and the record of the message has no header.
local DELIVERED_PLAIN = 'p'

-- Delivered to a target of a fan-out.
local DELIVERED_TARGET = 'f'
local TARGET_PART_OF = 4 -- the ticket of the fan-out

local DELIVERED = 'd'
local DELIVERED_ATTEMPTS = 4
local DELIVERED_STATUS = 5 -- with the next one only if a receipt has them
local DELIVERED_PROVIDER_ID = 6

local RETRY = 'r'
local RETRY_DELAY = 4 -- ms
local RETRY_TRIES = 5
local RETRY_REASON = 6

-- Our own process could not send it, or only its target was asked to wait.
local POSTPONED = 'w'
local POSTPONED_DELAY = 4 -- ms
local POSTPONED_TRIES = 5

-- Back to the head of the lane, no attempt spent.
local RELEASED = 'b'
local RELEASED_TRIES = 4

-- The provider asks the lane to wait: back to the head, and behind those that wait when the hold is over.
local LANE_HELD = 't'
local LANE_TRIES = 4

-- The provider asks its group to wait.
local GROUP_HELD = 'h'
local GROUP_WAIT = 4 -- ms; 0: the group's own, growing wait
local GROUP_TRIES = 5
local GROUP_REASON = 6

local DEAD_LETTER = 'x'
local DEAD_REASON = 4
local DEAD_STATUS = 5
local DEAD_BODY = 6 -- the argument that holds the body
local DEAD_ATTEMPTS = 7
local DEAD_ANSWERED = 8 -- 1 if the provider answered, else 0
local DEAD_HISTORY = 9 -- the failed attempts (see relay/store/attempts.py)

local UNREGISTERED = 'u'
local UNREGISTERED_REASON = 4
local UNREGISTERED_TARGET = 5
local UNREGISTERED_SINCE = 6
local UNREGISTERED_ID = 7
local UNREGISTERED_ATTEMPTS = 8
local UNREGISTERED_TRIES = 9
local UNREGISTERED_AGAIN = 10 -- how often it was tried again because another message was accepted
local UNREGISTERED_STATUS = 11

-- Refused, by its own fault or by ours.
local REFUSED = 's'
local REFUSED_REASON = 4
local REFUSED_STATUS = 5
local REFUSED_BODY = 6 -- the argument that holds the body
local REFUSED_ATTEMPTS = 7
local REFUSED_TARGET = 8
local REFUSED_UNREGISTERED = 9 -- 1 if the target is unregistered, should the message be at fault, else 0
local REFUSED_TRIES = 10
local REFUSED_AGAIN = 11 -- how often it was tried again because another message was accepted
local REFUSED_ID = 12
local REFUSED_STATE = 13 -- of the lane, should the fault be ours

local EXPIRED = 'e'
local EXPIRED_ATTEMPTS = 4
