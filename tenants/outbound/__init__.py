"""Requests to addresses that a tenant gave us: they reach the public internet and nothing else.

Else whoever can name a URL could have us read what only our own network may
(server-side request forgery). ``check_server_url`` refuses when a URL is saved;
``OutboundSession`` refuses again, with the very address it connects to, whenever one is
called. What an operator names in ``OUTBOUND_PRIVATE_NETWORKS`` counts as public.
"""

from tenants.outbound.addresses import is_public
from tenants.outbound.resolving import Refused
from tenants.outbound.session import OutboundSession
from tenants.outbound.urls import LONGEST_URL, check_browser_url, check_server_url

__all__ = [
    "LONGEST_URL",
    "OutboundSession",
    "Refused",
    "check_browser_url",
    "check_server_url",
    "is_public",
]
