"""Ways in which products of this kind were broken, replayed (one file a break)."""
