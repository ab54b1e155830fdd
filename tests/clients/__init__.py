"""The platform from outside: what clients that already exist see of it."""
