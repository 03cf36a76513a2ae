-- Appends an action to the audit log of the fleet.
--
-- @key AUDIT
-- ARGV   1 the entry (JSON), 2 how many entries stay
-- reply  the id of the entry
--
-- Under maxmemory Redis refuses XADD, unless the script has written before: so it trims first.

redis.call('XTRIM', AUDIT, 'MAXLEN', '~', ARGV[2])
return redis.call('XADD', AUDIT, '*', 'entry', ARGV[1])
