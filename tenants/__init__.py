"""ROOM who: organizations, projects, members, roles, API keys, plans, admission, audit.

Imports nothing of ours. Everyone else asks this room who a caller is
(``authentication``), how much they may do now (``admission``), and changes
tenants only through ``actions``.
"""
