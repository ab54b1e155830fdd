"""The management API, ``/v1/organization/*``, in the shape of OpenAI's admin API."""
