"""A seeded run through all that can go wrong, and an account of each message: see docs/reliability.md.

`plan` says what will happen, `run` lets it happen in a `world`, and the `ledger` judges what was seen.
"""
