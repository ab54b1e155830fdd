"""From a response's body to its answer, whole or as events, kept unless nobody wants that."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Callable
from itertools import takewhile
from typing import Any, TypeVar

import msgspec

from api import stored
from api.chat_completions import handler as chat
from api.chat_completions.messages import template_messages
from api.chat_completions.prompting import prompt_options
from api.chat_completions.tools import choice_of, tools_of
from api.controls import DEFAULT, Controls
from api.counting import MOST_COUNTED_TOKENS, Counting
from api.errors import INTERNAL, ApiError, api_error, decoded
from api.gateway import Gateway
from api.parameters import refuse, tier_name
from api.plan import Plan
from api.resolve import resolve
from api.resources import Caller
from api.responses.chat import chat_request, check_supported, in_our_words, wants_logprobs
from api.responses.items import Item, stored_items
from api.responses.wire import (
    MOST_ITEMS,
    PromptFields,
    ResponseRequest,
    decode,
    decode_count,
)
from api.responses.writer import ResponseWriter, to_json
from api.run import Run
from inference.answers.models import StoredAnswer
from inference.answers.selectors import get_turns
from inference.errors import ContentBlocked, ContextLengthExceeded, InferenceError, InvalidRequest
from inference.models import Model
from tenants.errors import AccessDenied, TenantError
from tenants.models import ApiKey, Project
from tenants.principal import Principal

log = logging.getLogger(__name__)

ENDPOINT = "responses"
# As at OpenAI a response is kept unless its request says otherwise.
STORES_UNASKED = True


Call = TypeVar("Call")


class ResponseCall:
    """A validated request: ``plan`` says what to run, the rest how to answer. A response that
    was asked for before has its id and its moment (Unix time)."""

    def __init__(
        self,
        body: ResponseRequest,
        plan: Plan,
        items: list[Item],
        public_id: str = "",
        created_at: int = 0,
    ):
        self.plan = plan
        self._public_id = public_id or f"resp_{plan.request_id}"
        self._created_at = created_at or int(time.time())
        self.is_stream = bool(body.stream)
        self._body = body
        self.items = items  # of this turn's input
        wanted = STORES_UNASKED if body.store is None else body.store
        self._is_kept = wanted and stored.may_keep(plan.principal)
        top = (body.top_logprobs or 0) if wants_logprobs(body) else None
        self._writer = ResponseWriter(self._response(), top)

    async def whole(self, run: Run) -> bytes:
        """The ``response`` object."""
        run.wait_for_all()
        reason = ""
        with in_our_words():
            async for part in run.parts():
                self._writer.output(part.output)
                reason = part.output.finish_reason
        self._end(run, reason)
        await run.settle()
        await self._keep()
        return to_json(self._writer.response)

    async def chunks(self, run: Run) -> AsyncIterator[list[bytes]]:
        """Events; those of one list belong in one write. From the first on, what goes wrong is
        an event as well."""
        writer, has_begun, reason = self._writer, False, ""
        ready: list[bytes] = []
        try:
            with in_our_words():
                async for part in run.parts():
                    ready = [] if has_begun else writer.begin()
                    has_begun, reason = True, part.output.finish_reason
                    ready += writer.output(part.output)
                    if ready and not reason:
                        yield ready
            ready += self._end(run, reason)
        except (TenantError, InferenceError) as error:
            if not has_begun:
                raise
            ready = self._broken(run, error)
        except Exception:
            if not has_begun:
                raise
            log.exception("stream.failed", extra={"request_id": self.plan.request_id})
            ready = self._failed(run, INTERNAL)
        await run.settle()
        await self._keep()
        yield [*ready, writer.last()]

    def queued(self) -> tuple[dict[str, Any], list[bytes]]:
        """Instead of an answer: the response as it waits to be made, and its events until then."""
        response = self._writer.response
        response["status"] = "queued"
        return response, self._writer.queued()

    # --- How it ends ----------------------------------------------------------------------

    def _end(self, run: Run, reason: str) -> list[bytes]:
        fields: dict[str, Any] = {"usage": self._usage(run)}
        if reason == "length":
            return self._writer.end(
                "incomplete", incomplete_details={"reason": "max_output_tokens"}, **fields
            )
        return self._writer.end("completed", completed_at=int(time.time()), **fields)

    def _broken(self, run: Run, error: TenantError | InferenceError) -> list[bytes]:
        if isinstance(error, ContentBlocked):
            details = {"reason": "content_filter"}
            return self._writer.end(
                "incomplete", incomplete_details=details, usage=self._usage(run)
            )
        return self._failed(run, api_error(error))

    def _failed(self, run: Run, error: ApiError) -> list[bytes]:
        self._is_kept = False
        return self._writer.end("failed", error=told_error(error), usage=None)

    async def _keep(self) -> None:
        """The answer says whether it is kept: an organization may allow none."""
        body, response = self._body, self._writer.response
        if self._is_kept:
            response["store"] = True
            self._is_kept = await stored.keep(
                self.plan.principal,
                kind=StoredAnswer.Kind.RESPONSE,
                public_id=response["id"],
                model=self.plan.entry.name,
                content={"input": self.items, "response": response},
                metadata=body.metadata,
                previous=body.previous_response_id or "",
            )
        response["store"] = self._is_kept

    def _usage(self, run: Run) -> dict[str, Any]:
        prompt, completion = self.plan.prompt_tokens, run.completion_tokens
        return {
            "input_tokens": prompt,
            "input_tokens_details": {
                "cached_tokens": run.cached_tokens,
                "cache_write_tokens": 0,
            },
            "output_tokens": completion,
            "output_tokens_details": {"reasoning_tokens": self._writer.reasoning_tokens},
            "total_tokens": prompt + completion,
        }

    def _response(self) -> dict[str, Any]:
        """Before there is any output. Where the request left a value open, the one that holds."""
        body, plan, sampling = self._body, self.plan, self.plan.sampling
        assert sampling is not None
        return {
            "id": self._public_id,
            "object": "response",
            "created_at": self._created_at,
            "status": "in_progress",
            "background": bool(body.background),
            "completed_at": None,
            "error": None,
            "incomplete_details": None,
            "instructions": body.instructions,
            "max_output_tokens": body.max_output_tokens,
            "max_tool_calls": body.max_tool_calls,
            "model": plan.entry.name,
            "output": [],
            "parallel_tool_calls": body.parallel_tool_calls is not False,
            "previous_response_id": body.previous_response_id,
            "prompt_cache_key": body.prompt_cache_key,
            "reasoning": {
                "effort": body.reasoning.effort if body.reasoning else None,
                "summary": None,
            },
            "safety_identifier": body.safety_identifier,
            "service_tier": tier_name(plan.tier),
            "store": self._is_kept,
            "temperature": sampling.temperature,
            "text": _text(body),
            "tool_choice": body.tool_choice or ("auto" if body.tools else "none"),
            "tools": _tools(body),
            "top_logprobs": body.top_logprobs or 0,
            "top_p": sampling.top_p,
            "truncation": body.truncation or "disabled",
            "usage": None,
            "user": body.user,
            "metadata": body.metadata or {},
        }


def told_error(error: ApiError) -> dict[str, Any]:
    """As a response that failed tells it: of OpenAI's codes the one that fits."""
    code = "server_error" if error.status >= 500 else "invalid_prompt"
    if error.status == 429:
        code = "rate_limit_exceeded"
    return {"code": code, "message": error.message}


def _text(body: PromptFields) -> dict[str, Any]:
    made: dict[str, Any] = {"format": {"type": "text"}, "verbosity": "medium"}
    if body.text is not None and (wanted := body.text.format) is not None:
        made["format"] = {
            name: value
            for name, value in msgspec.structs.asdict(wanted).items()
            if value is not None
        }
    return made


def _tools(body: PromptFields) -> list[dict[str, Any]]:
    return [
        {**msgspec.structs.asdict(tool), "strict": bool(tool.strict)} for tool in body.tools or ()
    ]


# --- Steps 2 to 4: validate, resolve, count -----------------------------------------------------


async def prepare(
    gateway: Gateway,
    principal: Principal,
    raw: bytes,
    request_id: str,
    started_at: float,
    controls: Controls = DEFAULT,
) -> ResponseCall:
    body = decoded(decode, raw)
    # Who can have it is answered by ``api.responses.background``.
    refuse(background=body.background)
    return await call_of(ResponseCall, gateway, principal, body, request_id, started_at, controls)


async def call_of(
    make: Callable[[ResponseRequest, Plan, list[Item]], Call],
    gateway: Gateway,
    principal: Principal,
    body: ResponseRequest,
    request_id: str,
    started_at: float,
    controls: Controls = DEFAULT,
) -> Call:
    check_supported(body)
    items = stored_items(body.input)
    conversation = await _before(principal, body) + items
    if len(conversation) > MOST_ITEMS:
        raise InvalidRequest(f"A conversation has at most {MOST_ITEMS} items.", param="input")

    async def plan(some: list[Item]) -> Plan:
        return await chat.plan_of(
            gateway,
            principal,
            chat_request(body, some),
            request_id,
            started_at,
            controls,
            endpoint=ENDPOINT,
            fits_context=body.truncation == "auto",
        )

    with in_our_words():
        if body.truncation != "auto":
            return make(body, await plan(conversation), items)
        return make(body, await _plan_what_fits(plan, conversation), items)


async def _plan_what_fits(plan: Any, conversation: list[Item]) -> Plan:
    """With as little as possible left out after what the system says first; what is left begins
    with something that a user said, so that no call is parted from its output."""
    try:
        whole: Plan = await plan(conversation)
        return whole
    except ContextLengthExceeded as error:
        too_long = error
    first = list(takewhile(lambda item: item.get("role") in ("system", "developer"), conversation))
    users = [index for index, item in enumerate(conversation) if item.get("role") == "user"]
    starts = [index for index in users if index > len(first)]
    found: Plan | None = None
    low, high = 0, len(starts)
    while low < high:
        middle = (low + high) // 2
        try:
            found = await plan(first + conversation[starts[middle] :])
            high = middle
        except ContextLengthExceeded:
            low = middle + 1
    if found is None:
        raise too_long
    return found


async def _before(principal: Principal, body: PromptFields) -> list[Item]:
    """The items of the turns that this one follows. The instructions of one hold for it alone."""
    if body.previous_response_id is None:
        return []
    if not principal.may("answers.read"):  # a model can be asked to repeat what was said
        raise AccessDenied("This API key lacks the scope answers.read.")
    turns = await Caller(principal, None).work(_turns, body.previous_response_id)
    return [item for turn in turns for item in (*turn["input"], *turn["response"]["output"])]


def _turns(project: Project, key: ApiKey, public_id: str) -> list[dict[str, Any]]:
    return get_turns(project, public_id)


def prepare_count(gateway: Gateway, principal: Principal, raw: bytes) -> Counting:
    """How many tokens the prompt of such a request has."""
    body = decoded(decode_count, raw)
    check_supported(body)
    with in_our_words():
        items = stored_items(body.input)
        entry, candidates = resolve(gateway, body.model, Model.Kind.CHAT, principal)

    async def work() -> dict[str, Any]:
        conversation = await _before(principal, body) + items
        with in_our_words():
            request = chat_request(body, conversation)
            tools = tools_of(request.tools)
            choice_of(request.tool_choice, tools)
            ids = await candidates[0].renderer.encode_chat(
                template_messages(request.messages),
                scope=principal.organization,
                limit_tokens=MOST_COUNTED_TOKENS,
                **prompt_options(request, tools),
            )
        return {"object": "response.input_tokens", "input_tokens": len(ids)}

    return Counting(entry.name, work)
