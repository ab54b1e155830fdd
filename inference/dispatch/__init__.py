"""The one dispatcher: every token of every door runs through ``Dispatcher.submit``.

``sequence`` is what a caller holds, ``publisher`` turns sequences into Celery
messages, ``dispatcher`` chooses replicas, reads the mailbox and continues
elsewhere what a replica leaves unfinished.
"""

from inference.dispatch.dispatcher import Dispatcher
from inference.dispatch.sequence import Job, Output, Sequence

__all__ = ["Dispatcher", "Job", "Output", "Sequence"]
