"""DOOR behind: Celery tasks, the engine worker and its engines."""
