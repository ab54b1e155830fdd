"""ROOM tokens: registry, prompts, routing, the one dispatcher, engines' protocol, cache, screening.

Imports ``tenants`` and ``billing``. Work leaves by Celery task name; nothing
here imports a door.
"""
