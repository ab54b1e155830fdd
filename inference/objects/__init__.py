"""Where files lie: a folder, or a bucket of an S3-compatible store.

Keys are ours (an organization's number and a file's random name) and never a client's text.
"""

from inference.objects.store import ObjectMissing, ObjectStore, ObjectWriter, object_store

__all__ = ["ObjectMissing", "ObjectStore", "ObjectWriter", "object_store"]
