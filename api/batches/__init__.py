"""``/v1/batches``, and the process that runs their lines (``executor``)."""
