"""The Lua scripts, each behind the text that describes a state, and what they share."""

from __future__ import annotations

from pathlib import Path

from tenants.admission.kinds import DAY_MS
from tenants.redis_link import Script

# States of money and holds: over a month, so that a hold which nobody settles (no control
# worker for weeks) still frees what it holds. What is lost with a state is read anew.
STATE_KEPT_MS = 32 * DAY_MS
_FOLDER = Path(__file__).parent
_STATE = (_FOLDER / "state.lua").read_text()


def _script(name: str) -> Script:
    return Script(_STATE + (_FOLDER / f"{name}.lua").read_text())


ADMIT = _script("admit")
SETTLE = _script("settle")
SEED = _script("seed")
DOUBT = _script("doubt")
