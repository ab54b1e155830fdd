"""The engine worker: a Celery worker that owns one engine.

``bootstep`` starts and stops it with Celery, ``tasks`` takes batches, ``host``
holds the engine on an event loop of its own, ``fair_queue`` decides who is next,
``outbox`` carries deltas back, ``probe`` serves health and metrics.
"""
