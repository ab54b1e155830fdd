"""What beat does for files and batches."""
