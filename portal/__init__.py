"""DOOR for people: sign-up, keys, usage."""
