"""DOOR for programs: the OpenAI-compatible token path (raw ASGI) and the WebSocket.

``asgi`` routes and is the outer edge, ``run`` takes one request through admission,
dispatch and settlement, one folder an endpoint holds its wire types and handler.
``gateway`` is what one web process shares between requests.
"""
