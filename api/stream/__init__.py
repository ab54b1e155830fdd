"""The WebSocket ``/v1/stream``: several requests at once on one connection."""
