"""The playground and the first run in a real browser: on the simulated platform, whose answers
are made up, and against a socket that says what a hostile model or a dying server would.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from tests.cast import PASSWORD, Cast, build_cast, default_plan
from tests.harness.platform import CHAT_MODEL, Platform
from tests.portal.axe import violations
from tests.portal.serving import serve
from tests.portal.test_browser import (  # noqa: F401 - fixtures are found by their names
    WIDE,
    chromium,
    fits,
    open_page,
    pytestmark,
    shoot,
)

PHONE = {"width": 360, "height": 740}
TWO_MINUTES_S = 120


# --- On a platform that runs ------------------------------------------------------------------


@pytest.fixture
def visit(chromium: Any, simulated: Platform) -> Iterator[Callable[..., Any]]:  # noqa: F811
    """A page of the simulated platform; whatever its console complains of fails the test."""
    contexts: list[Any] = []
    complaints: list[str] = []

    def open_one(**options: Any) -> Any:
        context = chromium.new_context(base_url=simulated.url, **({"viewport": WIDE} | options))
        contexts.append(context)
        context.set_default_timeout(15_000)
        page = context.new_page()
        page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else 0)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        return page

    yield open_one
    for context in contexts:
        context.close()
    assert complaints == []


def enter(page: Any, platform: Platform) -> str:
    """Logs the demo's owner in; the organization's address."""
    page.goto("/accounts/login/")
    page.get_by_label("Email").fill(platform.demo["SLUICE_OWNER_EMAIL"])
    page.get_by_label("Password", exact=True).fill(platform.demo["SLUICE_OWNER_PASSWORD"])
    page.get_by_role("button", name="Log in", exact=True).click()
    page.wait_for_url("**/o/**")
    found = re.search(r"/o/\w+/", page.url)
    assert found
    return found[0]


def say(page: Any, text: str) -> None:
    page.get_by_label("Your message").fill(text)
    page.keyboard.press("Enter")
    settled(page)


def settled(page: Any) -> None:
    page.locator(".play:not(.is-running)").wait_for()
    page.locator(".turn:last-of-type .answer-foot").last.wait_for()


def test_a_conversation_branches_compares_and_outlives_the_session(
    visit: Callable[..., Any], simulated: Platform
) -> None:
    page = visit()
    root = enter(page, simulated)
    page.goto(f"{root}playground/")
    assert violations(page) == []
    page.get_by_label("Maximum tokens", exact=True).fill("24")
    page.get_by_label("System prompt").fill("Be brief.")
    say(page, "What is a sluice?")
    figures = page.locator(".figures").inner_text()
    assert "24 out" in figures and "first token" in figures
    assert "left" in page.locator("[data-limits]").inner_text()
    # An edit is another branch; both can be gone to, and the conversation goes on from one.
    page.get_by_role("button", name="Edit").click()
    page.get_by_label("Edit").fill("What is a lock?")
    page.get_by_role("button", name="Send as a new branch").click()
    page.get_by_text("Branch 2 of 2").wait_for()
    settled(page)
    page.get_by_role("button", name="Earlier branch").click()
    page.get_by_text("What is a sluice?").wait_for()
    page.get_by_role("button", name="Compare").click()
    say(page, "And who opens it?")
    assert page.locator(".turn:last-of-type .answer").count() == 2
    assert page.locator(".turn:last-of-type .answer-foot").count() == 2
    page.get_by_role("button", name="Try again").last.click()
    page.get_by_text("Branch 2 of 2").wait_for()
    settled(page)
    assert violations(page) == []
    shoot(page, "playground-compared")
    # As code: the system prompt, the open branch, and what was chosen.
    page.get_by_role("button", name="View code").click()
    page.get_by_role("radio", name="Python").check(force=True)
    code = page.locator("#play-python").text_content()
    assert "Be brief." in code and "What is a sluice?" in code and "What is a lock?" not in code
    assert "max_completion_tokens=24" in code
    compile(code, "shown", "exec")
    shoot(page, "playground-code")
    page.keyboard.press("Escape")
    # The session ends in the midst of writing: it is said, and nothing is lost.
    page.get_by_label("Your message").fill("Still here?")
    page.context.clear_cookies()
    page.reload()
    page.get_by_label("Email").fill(simulated.demo["SLUICE_OWNER_EMAIL"])
    page.get_by_label("Password", exact=True).fill(simulated.demo["SLUICE_OWNER_PASSWORD"])
    page.get_by_role("button", name="Log in", exact=True).click()
    page.wait_for_url("**/playground/")
    assert page.get_by_label("Your message").input_value() == "Still here?"
    assert page.get_by_label("System prompt").input_value() == "Be brief."
    assert page.get_by_text("And who opens it?").is_visible()
    page.get_by_label("Account of").click()
    page.get_by_role("button", name="Log out").click()
    page.wait_for_url("**/accounts/login/")
    assert page.evaluate("sessionStorage.length") == 0


def test_completion_and_embeddings(visit: Callable[..., Any], simulated: Platform) -> None:
    page = visit(color_scheme="dark", viewport=PHONE)
    root = enter(page, simulated)
    page.goto(f"{root}playground/completion/")
    page.get_by_label("Maximum tokens", exact=True).fill("9000")
    page.get_by_label("Text to go on from").fill("Once upon a time")
    page.get_by_role("button", name="Complete").click()
    page.get_by_text("Between 1 and").wait_for()
    assert page.locator(".turn").count() == 0, "what is out of range is not sent"
    page.get_by_label("Maximum tokens", exact=True).fill("12")
    page.keyboard.press("Tab")
    page.get_by_role("button", name="Complete").click()
    settled(page)
    assert "12 out" in page.locator(".figures").inner_text()
    assert violations(page) == [] and fits(page)
    shoot(page, "playground-completion")
    page.goto(f"{root}playground/embeddings/")
    page.get_by_role("button", name="Add a text").click()
    page.get_by_role("button", name="Compare", exact=True).click()
    page.get_by_text("Write something or remove").wait_for()
    page.get_by_label("Text 4", exact=True).fill("The cat sleeps on the sofa.")
    page.get_by_role("button", name="Compare", exact=True).click()
    page.locator(".likeness").wait_for()
    cells = [
        [float(cell) for cell in row.locator("td").all_inner_texts()]
        for row in page.locator(".likeness tbody tr").all()
    ]
    assert len(cells) == 4 and all(abs(cells[at][at] - 1) < 0.001 for at in range(4))
    assert abs(cells[0][3] - 1) < 0.001, "the same text again"
    assert cells[0][1] == cells[1][0] < 0.999
    assert violations(page) == [] and fits(page)
    shoot(page, "playground-embeddings")


def test_from_sign_up_to_the_first_call_in_two_minutes(
    visit: Callable[..., Any], simulated: Platform
) -> None:
    began = time.monotonic()
    page = visit()
    page.goto("/accounts/signup/")
    page.get_by_label("Email").fill(f"ada-{time.time_ns()}@example.com")
    page.get_by_label("Organization name").fill("Analytical Engines")
    page.get_by_label("Password", exact=True).fill("notes on the engine")
    page.get_by_label("Password (again)").fill("notes on the engine")
    page.get_by_role("button", name="Create account").click()
    page.wait_for_url("**/o/org_*/")
    page.get_by_role("button", name="Create key").click()
    secret = page.locator("#secret").text_content()
    page.get_by_text("Waiting for the first call").wait_for()
    assert page.locator("[aria-current=step]").inner_text() == "First call"
    assert violations(page) == []
    shoot(page, "first-call-waiting")
    # What the page shows is what is run: the address, the key and the body of its example.
    example = page.locator("#snippet-curl").text_content()
    address = re.search(r"curl (\S+)", example)
    body = re.search(r"-d '(.*)'", example, re.DOTALL)
    assert address and body and f"Bearer {secret}" in example
    asked = json.loads(body[1]) | {"max_tokens": 8}
    answer = httpx.post(
        address[1].replace(address[1].split("/v1")[0], simulated.url),
        json=asked,
        headers={"Authorization": f"Bearer {secret}"},
        timeout=30,
    )
    assert answer.status_code == 200, answer.text
    page.get_by_text("The first call has arrived.").first.wait_for()
    assert time.monotonic() - began < TWO_MINUTES_S
    facts = page.locator("[data-awaited-done]").inner_text()
    assert CHAT_MODEL in facts and answer.headers["x-request-id"] in facts
    assert violations(page) == []
    shoot(page, "first-call-arrived")
    page.get_by_role("link", name="Open the playground").click()
    page.wait_for_url("**/playground/")
    page.get_by_label("Maximum tokens", exact=True).fill("8")
    say(page, "And without a key?")


# --- Against a socket that is scripted ---------------------------------------------------------

HOSTILE = """# <img src=x onerror="window.owned = 1">
<script>window.owned = 2</script><iframe src="javascript:window.owned=3"></iframe>
[click](javascript:window.owned=4) [data](data:text/html,<script>window.owned=5</script>)
![pixel](https://tracker.example/x.png) <a href="https://a.example" onclick="window.owned=6">a</a>
<form action="https://evil.example"><input name="password"></form> <style>body{display:none}</style>
<svg><animate onbegin="window.owned=7" attributeName=x dur=1s></svg>
<a id="playground-config">clobbered</a>

Also [good](https://good.example/page) ones.

| a | b |
|---|---|
| **bold** | `<b>code</b>` |

```html
<script>window.owned = 8</script>
```
"""


def chunk(text: str = "", finish: str | None = None, **delta: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": {"content": text} | delta, "finish_reason": finish}
    return {"choices": [choice], "usage": None}


USAGE = {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 5}}


@pytest.fixture
def scripted(chromium: Any, live_server: Any) -> Iterator[Callable[..., Any]]:  # noqa: F811
    """``scripted(answer)``: the page of a chat whose socket answers a request by ``answer``, which
    is given the socket and the request's frame. Tickets are the portal's own.

    The console may complain: of what a test lets fail. A script's own error may not happen.
    """
    default_plan()
    cast = build_cast()
    serve("smol", tool_parser="hermes")
    address = f"/o/{cast.organization.public_id}/playground/"
    contexts: list[Any] = []
    errors: list[str] = []

    def open_one(answer: Callable[[Any, dict[str, Any]], None]) -> Any:
        context = chromium.new_context(base_url=live_server.url, viewport=WIDE)
        contexts.append(context)
        context.set_default_timeout(10_000)
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))

        def take(socket: Any) -> None:
            socket.on_message(lambda text: answer(socket, json.loads(text)))

        page.route_web_socket("**/v1/stream", take)
        log_in_at(page, cast, address)
        return page

    yield open_one
    for context in contexts:
        context.close()
    assert errors == []


def log_in_at(page: Any, cast: Cast, address: str) -> None:
    page.goto(f"/accounts/login/?next={address}")
    page.get_by_label("Email").fill(cast.owner.email)
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_role("button", name="Log in", exact=True).click()
    page.wait_for_url(f"**{address}")


def tell(socket: Any, frame: dict[str, Any], *chunks: dict[str, Any], error: Any = None) -> None:
    """A whole answer: its chunks, or an error, and the end."""
    if frame["type"] == "cancel":
        return
    for each in chunks:
        socket.send(json.dumps({"type": "chunk", "id": frame["id"], "data": each}))
    if error:
        socket.send(json.dumps({"type": "error", "id": frame["id"], "error": error}))
    limits = {"x-ratelimit-limit-requests": "60", "x-ratelimit-remaining-requests": "0"}
    done = {"type": "done", "id": frame["id"], "request_id": "r", "headers": limits}
    socket.send(json.dumps(done))


def ask(page: Any, text: str = "Hello") -> None:
    page.get_by_label("Your message").fill(text)
    page.get_by_role("button", name="Send", exact=True).click()


def test_what_a_model_writes_runs_nothing_and_fetches_nothing(scripted: Any) -> None:
    page = scripted(lambda socket, frame: tell(socket, frame, chunk(HOSTILE, "stop"), USAGE))
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    ask(page, HOSTILE)
    settled(page)
    page.wait_for_timeout(300)
    assert page.evaluate("window.owned") is None
    assert not [url for url in asked if "example" in url]
    prose = page.locator(".prose")
    for tag in ("script", "img", "iframe", "form", "input", "style", "svg", "[onclick]", "[id]"):
        assert prose.locator(tag).count() == 0, tag
    links = prose.locator("a[href]")
    found = [link.get_attribute("href") for link in links.all()]
    assert "https://good.example/page" in found
    assert all(href.startswith("https://") for href in found)
    assert {link.get_attribute("rel") for link in links.all()} == {"noopener noreferrer nofollow"}
    assert prose.locator("td strong").inner_text() == "bold", "and Markdown is Markdown"
    assert prose.locator("td code").inner_text() == "<b>code</b>"
    assert prose.locator("pre").inner_text().strip() == "<script>window.owned = 8</script>"
    assert violations(page) == []
    shoot(page, "playground-hostile")


def test_a_tool_is_called_by_hand_and_its_result_goes_back(scripted: Any) -> None:
    bodies: list[Any] = []

    def answer(socket: Any, frame: dict[str, Any]) -> None:
        bodies.append(frame["body"])
        if len(bodies) == 1:
            first = {"index": 0, "id": "call_1", "function": {"name": "get_", "arguments": '{"ci'}}
            rest = {"index": 0, "function": {"name": "weather", "arguments": 'ty": "Ulm"}'}}
            tell(socket, frame, chunk(tool_calls=[first]), chunk("", "tool_calls", tool_calls=[rest]), USAGE)  # fmt: skip
        else:
            tell(socket, frame, chunk("It rains.", "stop"), USAGE)

    page = scripted(answer)
    page.locator("summary", has_text="Tools").click()
    tools = page.get_by_role("textbox", name="Tools")
    for wrong, why in (("[", "not valid JSON"), ('{"type": "function"}', "Write a list of tools")):
        tools.fill(wrong)
        ask(page)
        page.get_by_text(why).wait_for()
    assert bodies == [], "what is wrong is not sent"
    tool = {"type": "function", "function": {"name": "get_weather", "parameters": {}}}
    tools.fill(json.dumps([tool]))
    page.get_by_label("Answer as").select_option("json_schema")
    page.get_by_label("JSON Schema").fill('{"type": "object"}')
    ask(page, "What is the weather in Ulm?")
    page.get_by_text("Calls get_weather").wait_for()
    page.get_by_label("Result of get_weather").fill('{"sky": "rain"}')
    page.get_by_role("button", name="Send the results").click()
    page.get_by_text("It rains.").wait_for()
    assert bodies[0]["tools"] == [tool]
    assert bodies[0]["response_format"]["json_schema"]["schema"] == {"type": "object"}
    called, result = bodies[1]["messages"][-2:]
    assert called["tool_calls"][0]["function"] == {
        "name": "get_weather", "arguments": '{"city": "Ulm"}',
    }  # fmt: skip
    assert result == {"role": "tool", "tool_call_id": "call_1", "content": '{"sky": "rain"}'}
    shoot(page, "playground-tools")


def test_a_model_that_joins_later_is_told_what_was_said(scripted: Any) -> None:
    bodies: list[Any] = []

    def answer(socket: Any, frame: dict[str, Any]) -> None:
        bodies.append(frame["body"])
        tell(socket, frame, chunk(f"Answer {len(bodies)}.", "stop"), USAGE)

    page = scripted(answer)
    ask(page, "One")
    settled(page)
    page.get_by_role("button", name="Compare").click()
    ask(page, "Two")
    settled(page)
    ask(page, "Three")
    settled(page)
    before, *both = ([each["content"] for each in body["messages"]] for body in bodies)
    assert before == ["One"]
    assert both[:2] == [["One", "Answer 1.", "Two"]] * 2
    assert sorted(text for told in both[2:] for text in told if "Answer" in text) == [
        "Answer 1.", "Answer 1.", "Answer 2.", "Answer 3.",
    ], "from then on each has its own"  # fmt: skip


def test_a_server_that_says_goodbye_ends_what_runs_and_gets_nothing_new(scripted: Any) -> None:
    sockets: list[Any] = []

    def answer(socket: Any, frame: dict[str, Any]) -> None:
        if socket not in sockets:
            sockets.append(socket)
        if len(sockets) == 1:
            socket.send(json.dumps({"type": "goodbye", "running": {}}))
            tell(socket, frame, chunk("The last one here.", "stop"), USAGE)
        else:
            tell(socket, frame, chunk("The first one there.", "stop"), USAGE)

    page = scripted(answer)
    ask(page, "One")
    page.get_by_text("The last one here.").wait_for()
    ask(page, "Two")
    page.get_by_text("The first one there.").wait_for()
    assert len(sockets) == 2


def test_what_goes_wrong_is_said_calmly_and_can_be_tried_again(scripted: Any) -> None:
    turn = iter(range(9))
    cancelled: list[str] = []

    def answer(socket: Any, frame: dict[str, Any]) -> None:
        if frame["type"] == "cancel":
            cancelled.append(frame["id"])
            return
        number = next(turn)
        if number == 0:
            error = {"message": "Limit of 60 requests.", "code": "rate_limit_exceeded"}
            tell(socket, frame, error=error)
        elif number == 1:
            part = {"type": "chunk", "id": frame["id"], "data": chunk("Half of ")}
            socket.send(json.dumps(part))
            socket.close(code=1012)
        elif number == 2:
            part = {"type": "chunk", "id": frame["id"], "data": chunk("Going on")}
            socket.send(json.dumps(part))
        else:
            tell(socket, frame, chunk("All of it.", "stop"), USAGE)

    page = scripted(answer)
    ask(page)
    page.get_by_text("A limit of your plan or project is reached.").wait_for()
    assert page.get_by_text("Limit of 60 requests.").is_visible()
    assert "0 of 60 left" in page.locator("[data-limits]").inner_text()
    page.get_by_role("button", name="Try again").click()
    page.get_by_text("The server restarted before").wait_for()
    assert page.get_by_text("Half of").is_visible(), "what had arrived is kept"
    page.get_by_role("button", name="Try again").click()
    page.get_by_text("Going on").wait_for()
    page.get_by_role("button", name="Stop").click()
    page.get_by_text("Stopped.").wait_for()
    assert len(cancelled) == 1
    page.get_by_role("button", name="Try again").click()
    page.get_by_text("All of it.").wait_for()
    page.get_by_text("Branch 4 of 4").wait_for()
    assert violations(page) == []


def test_no_ticket_is_said_and_nothing_is_lost(scripted: Any) -> None:
    page = scripted(lambda socket, frame: tell(socket, frame, chunk("Hi", "stop"), USAGE))
    refusal = {"error": {"message": "Tickets cannot be issued.", "code": "unavailable"}}
    answers = {
        "The platform cannot take requests right now": lambda route: route.fulfill(
            status=503, json=refusal
        ),
        "The server cannot be reached": lambda route: route.abort(),
        "Your session has ended": lambda route: route.fulfill(
            status=302, headers={"Location": "/accounts/login/"}
        ),
    }
    for said, answer in answers.items():
        page.route("**/playground/tickets/", answer)
        ask(page, "Hello")
        page.get_by_text(said).first.wait_for()
        page.unroute("**/playground/tickets/")
    assert (
        page.get_by_role("link", name="Log in again").get_attribute("href").endswith("/playground/")
    )
    page.get_by_role("button", name="Try again").last.click()
    page.get_by_text("Hi", exact=True).wait_for()


def test_without_script_there_is_code(open_page: Any) -> None:  # noqa: F811
    cast = build_cast()
    serve("smol")
    page = open_page(java_script_enabled=False)
    log_in_at(page, cast, f"/o/{cast.organization.public_id}/playground/")
    assert page.get_by_text("The playground needs JavaScript.").is_visible()
    assert page.locator("#snippet-curl").is_visible()
    assert not page.get_by_role("button", name="Send").is_visible()
    assert fits(page)
