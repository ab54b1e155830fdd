"""The sweep of kept answers."""
