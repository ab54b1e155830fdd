"""What reading a request and writing its answer cost: the wire's own share of a request.

No platform and no network. Read is an ordinary chat request (two messages, four parameters):
its JSON, every check of its fields, its messages for the template and the sampling parameters.
Written are the whole answer, and a streamed chunk as the short way writes it to the socket.
Rendering the template and tokenizing are not in it.
"""

from __future__ import annotations

import os

import django

from benchmarks.sizes import Sizes


def measure(sizes: Sizes) -> dict[str, object]:
    """Microseconds of CPU for each, the median of rounds."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    django.setup()
    # Models can be imported from here on.
    from benchmarks.parsing_costs import costs

    return costs(sizes)
