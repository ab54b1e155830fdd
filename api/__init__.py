"""DOOR for programs: the OpenAI-compatible token path (raw ASGI) and the WebSocket."""
