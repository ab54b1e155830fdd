"""What of OpenAI's surface is served: every method of its official client, every parameter.

Its client is needed to make the page and for the tests, not to run: nothing here is imported by
what serves.
"""
