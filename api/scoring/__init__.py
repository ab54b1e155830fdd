"""``POST /v1/rerank`` and ``/v1/score``, in the words of vLLM, Jina and Cohere."""
