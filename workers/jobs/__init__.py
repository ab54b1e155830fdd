"""Runs durable jobs (``tenants.jobs``) beside the control worker's own tasks.

The runner has threads of its own: a job that takes an hour holds up neither the recording
of usage nor a Celery message, and so no visibility timeout either.
"""
