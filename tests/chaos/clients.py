"""Clients that record all they see: every byte of text, what they were told, and when."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

import httpx

from tests.chaos.ground import Tenant
from tests.harness.platform import CHAT_MODEL

# As OpenAI's clients do: twice more, after what they are told or half a second and doubling.
RETRIES = 2
RETRIED = {408, 409, 429, 500, 502, 503, 504}
FIRST_DELAY_S, MOST_DELAY_S = 0.5, 8.0
TIMEOUT = httpx.Timeout(150, connect=30)
PROMPTS = 12


@dataclass(frozen=True)
class Ask:
    """One request; the same ask has the same answer, whoever asks and whenever."""

    tenant: Tenant
    prompt: int
    is_stream: bool = True
    key: int = 0
    retries: int = RETRIES
    max_tokens: int = 0  # 0: by the prompt

    @property
    def tokens(self) -> int:
        return self.max_tokens or 24 + 4 * (self.prompt % 6)

    @property
    def identity(self) -> tuple[str, int, int]:
        return self.tenant.name, self.prompt, self.tokens

    def body(self) -> dict[str, Any]:
        # Counting leaves a model no near ties, which two replicas may decide differently.
        numbers = " ".join(str(self.prompt * 7 + step) for step in range(1, 24))
        content = f"{self.tenant.name} counts: {numbers}"
        body: dict[str, Any] = {
            "model": CHAT_MODEL,
            "messages": [{"role": "user", "content": content}],
            "max_tokens": self.tokens,
            "temperature": 0,
            "ignore_eos": True,
            "stream": self.is_stream,
        }
        return body | ({"stream_options": {"include_usage": True}} if self.is_stream else {})


@dataclass
class Attempt:
    """One HTTP request."""

    started_at: float  # Unix seconds, as all times here
    request_id: str = ""
    status: int = 0  # 0: no head came
    code: str = ""  # the error's, in the API's shape, or the exception's name
    retry_after: str = ""
    head_at: float = 0.0
    ended_at: float = 0.0


@dataclass
class Record:
    """What became of one ask. ``outcome``: complete, refused, failed, or cut (its connection
    broke with the answer under way)."""

    identity: tuple[str, int, int]
    is_stream: bool
    key: int
    outcome: str = ""
    attempts: list[Attempt] = field(default_factory=list)
    text: str = ""
    finish_reason: str = ""
    usage: tuple[int, int] | None = None  # prompt and completion tokens, as told
    longest_silence_s: float = 0.0
    text_at: float = 0.0  # when the last text came

    @property
    def last(self) -> Attempt:
        return self.attempts[-1]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class Clients:
    """``async with Clients(url) as clients``; ``records`` holds all that happened."""

    def __init__(self, url: str):
        self.records: list[Record] = []
        limits = httpx.Limits(max_connections=400, max_keepalive_connections=400)
        self._http = httpx.AsyncClient(base_url=url, timeout=TIMEOUT, limits=limits)

    async def __aenter__(self) -> Clients:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def ask_all(self, asks: Iterable[Ask], at_once: int) -> list[Record]:
        """Each ask once, ``at_once`` at a time."""
        waiting, found = iter(asks), []

        async def work() -> None:
            for ask in waiting:
                found.append(await self.ask(ask))

        await asyncio.gather(*(work() for _ in range(at_once)))
        return found

    async def ask_until(
        self, stop: asyncio.Event, tenants: list[Tenant], at_once: int, rng: random.Random
    ) -> None:
        """One ask after another, ``at_once`` at a time, drawn from ``rng``."""

        async def work() -> None:
            while not stop.is_set():
                await self.ask(Ask(rng.choice(tenants), rng.randrange(PROMPTS), rng.random() < 0.7))

        await asyncio.gather(*(work() for _ in range(at_once)))

    async def ask(self, ask: Ask) -> Record:
        record = Record(ask.identity, ask.is_stream, ask.key)
        self.records.append(record)
        for number in range(1 + ask.retries):
            attempt = Attempt(time.time())
            record.attempts.append(attempt)
            record.outcome = record.text = ""
            try:
                await self._attempt(ask, record, attempt)
            except httpx.HTTPError as error:
                attempt.code = type(error).__name__
                # A stream that began is the client's: no library asks for it again.
                record.outcome = "cut" if attempt.status and ask.is_stream else "failed"
            attempt.ended_at = time.time()
            if record.outcome in {"complete", "cut"} or not _may_retry(attempt):
                break
            if number < ask.retries:
                await asyncio.sleep(_delay_s(attempt, number))
        return record

    async def _attempt(self, ask: Ask, record: Record, attempt: Attempt) -> None:
        headers = {"Authorization": f"Bearer {ask.tenant.keys[ask.key]}"}
        async with self._http.stream(
            "POST", "/v1/chat/completions", json=ask.body(), headers=headers
        ) as response:
            attempt.head_at = time.time()
            attempt.status = response.status_code
            attempt.request_id = response.headers.get("x-request-id", "")
            attempt.retry_after = response.headers.get("retry-after", "")
            if response.status_code != 200:
                _note_refusal(record, attempt, await response.aread())
            elif ask.is_stream:
                await _read_stream(record, attempt, response)
            else:
                _read_whole(record, json.loads(await response.aread()))

    async def get(self, path: str, key: str) -> int:
        """The status of a GET; 0 when there was no answer."""
        headers = {"Authorization": f"Bearer {key}"}
        try:
            return (await self._http.get(path, headers=headers, timeout=10)).status_code
        except httpx.HTTPError:
            return 0


def _may_retry(attempt: Attempt) -> bool:
    """A connection that broke before the head, or a status that asks for it."""
    return not attempt.status or attempt.status in RETRIED


def _delay_s(attempt: Attempt, number: int) -> float:
    if attempt.retry_after:
        return min(MOST_DELAY_S, float(attempt.retry_after))
    return min(MOST_DELAY_S, FIRST_DELAY_S * 2.0**number) * random.uniform(0.75, 1.0)


def _note_refusal(record: Record, attempt: Attempt, body: bytes) -> None:
    try:
        attempt.code = str(json.loads(body)["error"]["code"])
    except (ValueError, KeyError, TypeError):
        attempt.code = "not in the API's shape"
    record.outcome = "refused" if attempt.status in {429, 503} else "failed"


def _read_whole(record: Record, answer: dict[str, Any]) -> None:
    choice, usage = answer["choices"][0], answer["usage"]
    record.text, record.finish_reason = choice["message"]["content"], choice["finish_reason"]
    record.usage = usage["prompt_tokens"], usage["completion_tokens"]
    record.text_at = time.time()
    record.outcome = "complete"


async def _read_stream(record: Record, attempt: Attempt, response: httpx.Response) -> None:
    heard_at = attempt.head_at
    async for line in response.aiter_lines():
        if not line.startswith("data: "):
            continue
        record.longest_silence_s = max(record.longest_silence_s, time.time() - heard_at)
        heard_at = time.time()
        if line == "data: [DONE]":
            record.outcome = record.outcome or "complete"
            return
        _take(record, attempt, json.loads(line.removeprefix("data: ")))
    record.outcome = record.outcome or "cut"


def _take(record: Record, attempt: Attempt, event: dict[str, Any]) -> None:
    if "error" in event:
        record.outcome, attempt.code = "failed", str(event["error"]["code"])
        return
    for choice in event["choices"]:
        if text := choice["delta"].get("content"):
            record.text += text
            record.text_at = time.time()
        record.finish_reason = choice["finish_reason"] or record.finish_reason
    if usage := event.get("usage"):
        record.usage = usage["prompt_tokens"], usage["completion_tokens"]


@dataclass(frozen=True)
class Probe:
    """One small request without a second try."""

    at: float
    took_s: float
    status: int
    code: str


class Prober:
    """Asks every ``EVERY_S`` without retrying, to know from when on the platform serves."""

    EVERY_S = 0.2

    def __init__(self, url: str, tenant: Tenant):
        self.clients = Clients(url)
        self.probes: list[Probe] = []
        self._ask = Ask(tenant, prompt=PROMPTS, is_stream=False, retries=0, max_tokens=2)
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """For ever, whether or not the one before was answered; cancel to stop."""
        try:
            while True:
                task = asyncio.create_task(self._probe())
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
                await asyncio.sleep(self.EVERY_S)
        finally:
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await self.clients.__aexit__()

    async def _probe(self) -> None:
        began = time.time()
        record = await self.clients.ask(self._ask)
        status = record.last.status if record.outcome == "complete" else record.last.status or 0
        ok = record.outcome == "complete"
        self.probes.append(
            Probe(
                began, time.time() - began, status if ok or status != 200 else 0, record.last.code
            )
        )

    def recovered_after_s(self, since: float) -> float:
        """How long after ``since`` the last probe was sent that failed; 0 if none was."""
        failed = [probe.at for probe in self.probes if probe.status != 200 and probe.at >= since]
        return max(failed, default=since) - since + (self.EVERY_S if failed else 0.0)
