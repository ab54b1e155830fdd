"""Our sampling parameters as vLLM's own objects."""

from __future__ import annotations

from typing import Any

from inference.wire import Sampling

_OURS = frozenset({"structured", "structured_field", "parsing"})
_PLAIN_FIELDS = tuple(name for name in Sampling.__struct_fields__ if name not in _OURS)


def params_of(sampling: Sampling | None, structured: Any = None) -> Any:
    """``structured`` is vLLM's ``StructuredOutputsParams``, in place of ``sampling.structured``."""
    from vllm import PoolingParams, SamplingParams
    from vllm.sampling_params import RequestOutputKind

    if sampling is None:
        return PoolingParams(task="embed")  # of embeddings; of scores see ``score_params``
    fields = {name: getattr(sampling, name) for name in _PLAIN_FIELDS}
    if structured is not None:
        fields["structured_outputs"] = structured
    return SamplingParams(**fields, output_kind=RequestOutputKind.DELTA)


def score_params(pair_at: int) -> Any:
    """Of two texts that a cross-encoder reads at once; models like BERT tell them apart."""
    from vllm import PoolingParams

    types = {"compressed_token_type_ids": pair_at} if pair_at else None
    return PoolingParams(task="classify", extra_kwargs=types)


def structured_of(sampling: Sampling) -> Any:
    """vLLM's ``StructuredOutputsParams``, or None; raises VLLMValidationError or TypeError."""
    from vllm.sampling_params import StructuredOutputsParams

    return None if sampling.structured is None else StructuredOutputsParams(**sampling.structured)
