"""Tasks of the control worker: thin, idempotent, woken by beat; the rooms do the work."""
