"""``/v1/responses``: OpenAI's Responses API, planned and run as the chat that each one is."""
