"""Local emulators of the providers. They check requests as strictly as the real services do, and fail, stall
or throttle on demand. They share no code with the adapters, so that a mistake in an adapter is not repeated
here.

    server.py  HTTP/1.1 on one port ────────┐
    http2.py   HTTP/2 over TLS, for APNs ───┴▶ reception.py: check, inject faults, log
                                               ├▶ pusher.py, webhook.py, apns.py, fcm.py, webpush.py: pure
                                               ├▶ faults.py              the faults in force
                                               └▶ request_log.py         the requests so far
    control.py     /_sandbox/… and the page
    identity.py    keys and certificates of the server and of its users
    exchange.py    the data that passes between them; the interface of an emulator

To add an emulator, write a class with the shape of `exchange.Emulator` and name it in `server.emulators`.
"""
