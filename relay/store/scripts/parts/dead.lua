-- A dead letter keeps the whole message and all that is known about its end.
local function add_dead_letter(ticket, record, reason, status, body, attempts)
  call('XADD', DEAD, '*', 'ticket', ticket, 'record', record, 'reason', reason,
       'status', status, 'body', body, 'attempts', attempts)
end
