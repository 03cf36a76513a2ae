"""Local stand-ins for the providers: they check requests as strictly as the real ones do, and can be
told to fail, stall or throttle. Nothing here is shared with the adapters: a mistake in one of them must
not be repeated by its judge.

    server.py  HTTP/1.1 on one port ────────┐
    http2.py   HTTP/2 over TLS, for APNs ───┴▶ reception.py: judge, order faults, note
                                               ├▶ pusher.py, webhook.py, apns.py, fcm.py, webpush.py: pure
                                               ├▶ faults.py              what goes wrong, by order
                                               └▶ journal.py             what came in
    control.py     /_sandbox/… and the page
    identity.py    the keys and certificates of the server and of its users
    exchange.py    the data that passes between them; the interface of a stand-in

A further stand-in is one class with the shape of `exchange.StandIn`, named in `server.stand_ins`.
"""
