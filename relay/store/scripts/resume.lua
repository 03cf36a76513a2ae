-- Lifts a pause and every hold. Suspects are tried again: those whose targets are gone end if they are still gone;
-- of the others, none ends before another message is accepted, because our credentials may still be wrong.
--
-- ARGV   1 lifo ('1' or '0')
-- reply  how many messages are ready

-- @include lane
local policy = {} -- no suspect ends here, so none gets into the journal
-- @include records
-- @include blame
-- @include ready_count

-- @include note_hold

-- @include check_types

release_suspects(function() return true end, function() return false end, ARGV[1] == '1',
                 function(fields) return fields.gone and 1 or 0 end)
note_pause(NOW)
note_state(NOW)
call('HDEL', CONTROL, 'paused', 'paused_until', 'paused_at', 'paused_by', 'paused_reason')
call('HDEL', CONTROL, 'state', 'hold', 'reason', 'since', 'retry_after_until', 'throttles', 'throttled_tickets',
     'groups_throttled', 'failures', 'window', 'window_failed', 'window_answered', 'doubts', unpack(doubt_fields))
return count_ready(true)
