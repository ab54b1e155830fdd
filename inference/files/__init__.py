"""Files that clients upload and that batches write: rows here, bytes in the object store."""
