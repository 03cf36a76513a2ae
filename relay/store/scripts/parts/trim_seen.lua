-- Forgets ids that are no duplicates any more, and the oldest of more than a million.
call('ZREMRANGEBYSCORE', SEEN, '-inf', NOW)
call('ZREMRANGEBYRANK', SEEN, 0, -1000000 - 1)
