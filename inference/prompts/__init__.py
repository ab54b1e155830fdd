"""From messages to token ids in the gateway, exactly as the engine's own server would.

The hot path: no torch, no transformers, only ``tokenizers`` and ``jinja2``.
Text that looks like a special token inside a message becomes that token, as in
transformers and vLLM: equality with the engine's own server is the contract, and
a chat template is no security boundary.
"""

from inference.prompts.renderer import PromptRenderer

__all__ = ["PromptRenderer"]
