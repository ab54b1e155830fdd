"""Organizations that may be broken, one that must never be seen, and what every answer must be."""

from __future__ import annotations

import json
import os
import re
import secrets
import time
from dataclasses import dataclass, field
from typing import Any

import httpx
from hypothesis import HealthCheck, Phase, settings

from tests.api.reference import check_answer
from tests.harness.platform import CHAT_MODEL, Platform

# Cases of each operation and kind; many more at night: FUZZ_EXAMPLES=200.
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "2"))
# The same cases in every run, unless many are wanted: then they are others each time.
FUZZED = settings(
    max_examples=EXAMPLES,
    derandomize=EXAMPLES < 20,
    database=None,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
LONGEST_S = 10.0  # no answer takes this long here, whatever was asked
CANARY = "canary-5f1e7a"
_MAKE = """
import json
from tenants import actions
from tenants.models import Organization, Plan, User
owner = User.objects.get(email=%r)
plan = Plan.objects.get_or_create(
    slug="fuzzed", name="Fuzzed", requests_per_minute=100_000, tokens_per_minute=1_000_000_000
)[0]
made = []
for name in ("Fuzzed", "Managed"):
    organization = actions.create_organization(name, acting_user=owner)
    Organization.objects.filter(pk=organization.pk).update(plan=plan)
    project = organization.projects.get()
    keys = [actions.create_api_key(organization, f"Admin {n}", acting_user=owner)[1]
            for n in range(6)]
    key = actions.create_api_key(project, "Key", acting_user=owner)[1]
    made.append([key, keys, project.public_id])
print("MADE", json.dumps(made))
"""


@dataclass
class Prey:
    """An organization to be fuzzed, and ids: its own, and those of another's objects."""

    platform: Platform
    key: str
    admin_keys: list[str]
    own: list[str]
    foreign: list[str] = field(default_factory=list)
    tried: int = 0
    answered: set[int] = field(default_factory=set)

    @property
    def ids(self) -> list[str]:
        return [*self.own, *self.foreign]


def make_prey(platform: Platform) -> tuple[Prey, Prey]:
    """One for the token path, one for the management API, which may end up without anything."""
    script = _MAKE % platform.demo["SLUICE_OWNER_EMAIL"]
    out = platform.manage("shell", "-v", "0", "-c", script)
    foreign = hide_canaries(platform)
    fuzzed, managed = json.loads(out.partition("MADE ")[2])
    first, second = (Prey(platform, e[0], e[1], [e[2]], foreign) for e in (fuzzed, managed))
    return first, second


def hide_canaries(platform: Platform) -> list[str]:
    """Objects of the second organization whose every text has the canary; their ids."""
    ids = []
    with platform.http(platform.other_key) as client:
        said = {"model": CHAT_MODEL, "max_tokens": 2, "metadata": {"canary": CANARY}}
        ask = [{"role": "user", "content": CANARY}]
        chat = {**said, "messages": ask, "store": True}
        ids.append(client.post("/v1/chat/completions", json=chat).json()["id"])
        response = {"model": CHAT_MODEL, "input": CANARY, "metadata": {"canary": CANARY}}
        ids.append(client.post("/v1/responses", json=response).json()["id"])
        file = {"file": (f"{CANARY}.jsonl", CANARY.encode())}
        ids.append(client.post("/v1/files", data={"purpose": "batch"}, files=file).json()["id"])
        kept = {"x-sluice-resumable": "true"}
        begun = client.post("/v1/chat/completions", json={**chat, "stream": True}, headers=kept)
        ids.append(begun.headers["x-request-id"])
    with platform.http(platform.demo["SLUICE_OTHER_ADMIN_KEY"]) as client:
        root = "/v1/organization"
        named = {"name": f"{CANARY} {secrets.token_hex(4)}"}  # names are taken once
        project = client.post(f"{root}/projects", json=named).json()["id"]
        ids.append(project)
        ids.append(client.post(f"{root}/groups", json=named).json()["id"])
        accounts = f"{root}/projects/{project}/service_accounts"
        ids.append(client.post(accounts, json=named).json()["id"])
        ids += [user["id"] for user in client.get(f"{root}/users").json()["data"]]
        ids += [key["id"] for key in client.get(f"{root}/admin_api_keys").json()["data"]]
    return ids


def check_is_harmless(
    prey: Prey, operation: dict[str, Any], response: httpx.Response, began: float, told: object
) -> None:
    """No 5xx, no long wait, nothing of the other organization, and what the document says."""
    took = time.monotonic() - began
    where = f"{told}: {response.status_code} {response.text[:500]}"
    assert took < LONGEST_S, f"{took:.1f} s for {where}"
    assert response.status_code < 500, where
    said = response.text + json.dumps(dict(response.headers))
    assert CANARY not in said, f"another organization's text in {where}"
    prey.tried += 1
    prey.answered.add(response.status_code)
    if not is_elsewhere(operation, response):
        try:
            check_answer(operation, response)
        except Exception as error:
            raise AssertionError(f"{where}\n{error}") from error


def is_elsewhere(operation: dict[str, Any], response: httpx.Response) -> bool:
    """Whether a path that was made of anything at all leads to something else, or nowhere."""
    if any(f'"{code}"' in response.text for code in ("unknown_url", "method_not_allowed")):
        return True
    is_declared = str(response.status_code) in operation["responses"]
    return response.status_code in (301, 400, 404, 405) and not is_declared


def with_ids(path: str, parameters: dict[str, Any], prey: Prey, pick: int) -> dict[str, Any]:
    """Every other time ids that exist, of this organization or another, in place of made ones."""
    if pick % 2:
        return parameters
    chosen = {name: prey.ids[(pick // 2 + place) % len(prey.ids)]
              for place, name in enumerate(re.findall(r"\{(\w+)\}", path))}  # fmt: skip
    return {**parameters, **chosen}


def with_working_values(body: Any, prey: Prey, pick: int) -> Any:
    """A model that exists, so that more than its name is looked at; ids of another's objects."""
    if not isinstance(body, dict) or pick % 4 == 3:
        return body
    made = dict(body)
    if "model" in made:
        made["model"] = CHAT_MODEL if pick % 4 < 2 else "all-minilm-l6-v2"
    for name in ("previous_response_id", "input_file_id", "user_id", "group_id", "role_id"):
        if name in made:
            made[name] = prey.foreign[pick % len(prey.foreign)]
    return made


def still_works(platform: Platform) -> None:
    with platform.http() as client:
        said = {"model": CHAT_MODEL, "messages": [{"role": "user", "content": "Hi"}]}
        answer = client.post("/v1/chat/completions", json={**said, "max_tokens": 2}, timeout=30)
        assert answer.status_code == 200, answer.text
        assert client.get("/readyz").status_code == 200


def http_client(prey: Prey, key: str) -> httpx.Client:
    return httpx.Client(
        base_url=prey.platform.url,
        headers={"Authorization": f"Bearer {key}"},
        timeout=LONGEST_S * 2,
    )
