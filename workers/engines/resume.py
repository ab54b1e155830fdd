"""Going on with a sequence that another engine began, as that one would have.

A continuation is the prompt plus the tokens that were emitted, the last ``offset`` of
``prompt_ids``. vLLM takes all of it for prompt; here is what makes up for that:

- text: a detokenizer that was fed the emitted tokens as output, so that stop strings
  match across the seam, text that was held back for them comes, and a character whose
  bytes are in tokens of both sides is whole;
- frequency penalty: a bias of what the emitted tokens would be penalized by. vLLM adds
  biases before it penalizes, so that this is exact without a repetition penalty;
- a parser of tool calls or reasoning: a new one that heard the emitted tokens, and whose
  findings among them are left out;
- repetition penalty: nothing. vLLM counts prompt and output alike.

``inference.wire.Sampling.can_continue`` says what cannot be made up for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec

from inference.wire import Sampling, Submission


def resumed_sampling(submission: Submission) -> Sampling | None:
    """The submission's sampling, with the penalties that its emitted tokens have earned."""
    sampling = submission.sampling
    if sampling is None or not submission.offset or not sampling.frequency_penalty:
        return sampling
    bias = dict(sampling.logit_bias or {})
    for token_id, count in Counter(submission.prompt_ids[-submission.offset :]).items():
        bias[token_id] = bias.get(token_id, 0.0) - count * sampling.frequency_penalty
    return msgspec.structs.replace(sampling, logit_bias=bias)


def resumed_detokenizer(
    tokenizer: Any,
    request: Any,
    offset: int,
    replay: Callable[[int, str], None] | None = None,
) -> Any:
    """vLLM's detokenizer as it was after ``offset`` tokens of output.

    ``request`` is the ``EngineCoreRequest`` of the continuation. ``replay`` hears of each
    of those tokens with the text that came with it, as a parser once did.
    """
    from vllm.v1.engine.detokenizer import IncrementalDetokenizer

    params = request.sampling_params.clone()
    # Counted from the first token again, as this detokenizer does. It also keeps the
    # replay from looking for stops: what was emitted had none.
    params.min_tokens += offset
    began = msgspec.structs.replace(
        request, prompt_token_ids=request.prompt_token_ids[:-offset], sampling_params=params
    )
    detokenizer = IncrementalDetokenizer.from_new_request(tokenizer, began)
    emitted = request.prompt_token_ids[-offset:]
    if replay is None:
        detokenizer.update(emitted, False)
        detokenizer.get_next_output_text(False, True)  # its client has this text
        return detokenizer
    for token_id in emitted:
        detokenizer.update([token_id], False)
        replay(token_id, detokenizer.get_next_output_text(False, True))
    return detokenizer
