"""What `make up` prints when the platform answers: addresses and snippets to paste."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from deploy.local import programs

# The snippets begin at the left edge: pasted Python must not be indented.
TEMPLATE = """
Sluice is ready{note}.

  portal  {url}/         log-in in {demo}
  admin   {url}/admin/   (SLUICE_OWNER_* and SLUICE_STAFF_*)

Stream a chat with curl:

. {demo}
curl -sN "$OPENAI_BASE_URL/chat/completions" \\
  -H "Authorization: Bearer $OPENAI_API_KEY" -H "Content-Type: application/json" \\
  -d '{{"model": "{model}", "stream": true, "max_tokens": 64, "messages": [{{"role": "user", "content": "What is the capital of France?"}}]}}'

or with the openai package:

. {demo}
{python} -c '
from openai import OpenAI
stream = OpenAI().chat.completions.create(
    model="{model}", stream=True, max_tokens=64,
    messages=[{{"role": "user", "content": "What is the capital of France?"}}])
for chunk in stream:
    print((chunk.choices and chunk.choices[0].delta.content) or "", end="", flush=True)
print()
'

{ending}
"""


def render_banner(
    state_dir: Path,
    url: str,
    *,
    is_simulated: bool,
    is_detached: bool,
    model: str = programs.CHAT_DEPLOYMENT,
) -> str:
    return TEMPLATE.format(
        note=" (simulated engine: it makes its answers up)" if is_simulated else "",
        url=url,
        demo=shlex.quote(str(state_dir / "demo.env")),
        python=shlex.quote(sys.executable),
        model=model,
        ending="make down stops it; make status and make logs show it."
        if is_detached
        else "Ctrl-C stops it; make status and make logs work in another terminal.",
    )
