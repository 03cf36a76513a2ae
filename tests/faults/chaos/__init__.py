"""A seeded run through everything that can go wrong, and an account of every message: see docs/reliability.md.

`plan` says what will happen, `run` lets it happen in a `world`, and the `ledger` judges what was seen.
"""
