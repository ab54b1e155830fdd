"""``POST /tokenize`` and ``/detokenize``, in vLLM's words; under ``/v1`` too."""
