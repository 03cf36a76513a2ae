"""Local stand-ins for the providers: they check requests as strictly as the real ones do, and can be
told to fail, stall or throttle. Nothing here is shared with the adapters: a mistake in one of them must
not be repeated by its judge.
"""
