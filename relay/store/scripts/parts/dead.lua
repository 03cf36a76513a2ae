-- A dead letter keeps the whole message and all that is known about its end.
-- `history`: its failed attempts (see relay/store/attempts.py), or nil.
local function add_dead_letter(ticket, record, reason, status, body, attempts, history)
  call('XADD', DEAD, '*', 'ticket', ticket, 'record', record, 'reason', reason,
       'status', status, 'body', body, 'attempts', attempts, 'history', history or '')
end

-- Returns the failed attempts in a value of TRIES, or nil.
local function history_of(tries)
  return tries and string.match(tries, ' (.*)$')
end
