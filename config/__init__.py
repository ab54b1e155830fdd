"""Wires the rooms and doors together; nothing imports this package.

``settings`` reads the environment once, ``asgi`` composes the web process,
``celery`` the task processes, ``urls`` the Django pages.
"""
