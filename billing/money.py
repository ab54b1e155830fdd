"""How amounts are shown: exactly, never as a float."""

from __future__ import annotations


def dollars(amount_micros: int) -> str:
    """Micro-dollars with all six decimals."""
    whole, rest = divmod(abs(amount_micros), 1_000_000)
    return f"{'-' if amount_micros < 0 else ''}${whole:,}.{rest:06d}"
