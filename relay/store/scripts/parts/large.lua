-- Redis keeps a hash of up to 512 fields (and a sorted set of up to 128 members) as a list, in which it searches for each
-- field: adding 100 tickets to 200 takes 140 µs instead of 6 µs. A field of more than 64 bytes turns the list into a
-- table, and the key stays one until it is empty. So a script that adds FEW fields or more also adds this one, and
-- removes it immediately.
local LONG_FIELD = 'This field has more than 64 bytes, so that Redis keeps the key as a table.'
local FEW = 16
