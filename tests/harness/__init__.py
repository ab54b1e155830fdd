"""What the suite stands on: real services, a live platform, clients of it."""
