"""ROOM how much: usage events, prices, the double-entry ledger.

Imports ``tenants`` only. Usage arrives once per request through
``usage_stream`` and becomes one ledger transaction in ``actions``.
"""
