"""A seeded fault-injection run with an account of each message: see docs/explanation/reliability.md.

`plan` determines messages and faults, `run` executes the plan in a `harness`, and the `ledger` judges the
evidence.
"""
