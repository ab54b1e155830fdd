"""Answers that outlive their request: resumable streams, and ``Idempotency-Key``."""
