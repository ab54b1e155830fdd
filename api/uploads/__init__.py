"""``/v1/uploads``: files that are sent in parts."""
