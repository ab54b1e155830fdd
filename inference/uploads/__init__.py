"""Files that come in parts: each an object of its own until the file is put together."""
