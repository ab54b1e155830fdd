"""DOOR for people: sign-up, keys, usage.

A view parses, checks access (``pages.organization_page``), calls one action or
selector of a room, and answers with HTML that needs no script. ``ratelimits``
holds every limit of a page and its reason, ``middleware`` what holds for all of
them: who the client is, the content security policy, errors as pages.
"""
