"""Faults under load, and what clients must have seen all the same: ``python -m tests.chaos``."""
