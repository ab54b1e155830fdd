"""Chat templates render as transformers renders them, and refuse in the client's terms."""

from __future__ import annotations

import datetime
import json
from typing import Any

import pytest

from inference.errors import InvalidRequest, StoreError
from inference.prompts.template import ChatTemplate

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "It's <b>wet</b> & cold — «né»",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
        },
    }
]
# Everything that transformers adds to jinja2, and its whitespace rules.
RICH = """
{%- if tools %}
    {{- '<tools>' }}
    {%- for tool in tools %}
        {{- tool | tojson }}
        {{- tool | tojson(indent=2) }}
    {%- endfor %}
{%- endif %}
{% for message in messages %}
    {% if message.role == 'skip' %}{% continue %}{% endif %}
    {% if message.role == 'stop' %}{% break %}{% endif %}
    {% if message.role == 'assistant' %}
{% generation %}{{ message.content }}{{ eos_token }}{% endgeneration %}

    {% else %}
[{{ message['role'] }}] {{ message.content | trim }} {{ undefined_name }}
    {% endif %}
{% endfor %}
{% if add_generation_prompt %}{{ bos_token }}assistant{% endif %}
{{ strftime_now('%Y-%m-%d') }} {{ documents }} {{ enable_thinking }}
"""


def render(source: str, messages: list[dict[str, Any]], tools: Any = None, **variables: Any) -> str:
    template = ChatTemplate(source, {"bos_token": "<s>", "eos_token": "</s>"})
    return template.render(messages, tools, True, variables)


def user(content: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": content}]


@pytest.mark.parametrize("tools", [None, TOOLS])
@pytest.mark.parametrize("add_generation_prompt", [True, False])
@pytest.mark.parametrize("variables", [{}, {"enable_thinking": False, "documents": [{"a": 1}]}])
def test_a_rich_template_renders_as_in_transformers(
    tools: Any, add_generation_prompt: bool, variables: dict[str, Any]
) -> None:
    utilities = pytest.importorskip("transformers.utils.chat_template_utils")
    messages = [
        {"role": "user", "content": "  <b>Hi</b> & 'bye' 🙂\n"},
        {"role": "skip", "content": "not this"},
        {"role": "assistant", "content": "  Hello\n"},
        {"role": "stop", "content": "nor this"},
        {"role": "user", "content": "nor that"},
    ]
    special = {"bos_token": "<s>", "eos_token": "</s>"}
    theirs, _ = utilities.render_jinja_template(
        [messages],
        tools=tools,
        chat_template=RICH,
        add_generation_prompt=add_generation_prompt,
        **special,
        **variables,
    )
    ours = ChatTemplate(RICH, special).render(messages, tools, add_generation_prompt, variables)
    assert ours == theirs[0]
    assert "not this" not in ours and "nor" not in ours and "<b>Hi</b> & 'bye'" in ours


def test_the_date_is_today() -> None:
    before = datetime.datetime.now().strftime("%Y-%m-%d")
    after = render("{{ strftime_now('%Y-%m-%d') }}", user("x"))
    assert before <= after <= datetime.datetime.now().strftime("%Y-%m-%d")


def test_a_templates_own_refusal_reaches_the_client_in_its_words() -> None:
    source = "{{ raise_exception('Conversation roles must alternate') }}"
    with pytest.raises(InvalidRequest, match="roles must alternate") as refused:
        render(source, user("x"))
    assert (refused.value.status, refused.value.param) == (400, "messages")


@pytest.mark.parametrize(
    "source",
    [
        "{{ messages[7]['content'] }}",
        "{{ messages[0]['content'] + 1 }}",
        "{{ messages[0].absent.deeper }}",
        "{{ 1 // 0 }}",
        "{{ range(10**9) | list }}",
        "{{ messages | tojson(indent=messages) }}",
    ],
)
def test_a_template_that_fails_is_a_refusal_without_details(source: str) -> None:
    with pytest.raises(InvalidRequest, match="cannot render") as refused:
        render(source, user("x"))
    assert refused.value.param == "messages"


@pytest.mark.parametrize(
    "source",
    [
        "{{ messages.__class__.__mro__ }}",
        "{{ ''.__class__.__base__.__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{{ cycler.__init__.__globals__ }}",
    ],
)
def test_a_template_stays_in_its_sandbox(source: str) -> None:
    with pytest.raises(InvalidRequest):
        render(source, user("x"))


@pytest.mark.parametrize(
    "name", ["messages", "tools", "add_generation_prompt", "chat_template", "tokenize"]
)
def test_a_client_cannot_replace_what_the_platform_sets(name: str) -> None:
    template = ChatTemplate("{{ messages }}", {})
    with pytest.raises(InvalidRequest) as refused:
        template.render(user("x"), None, True, {name: "mine"})
    assert refused.value.param == "chat_template_kwargs"


def test_rendering_leaves_nothing_for_the_next_request() -> None:
    source = "{% set seen = seen ~ '1' %}{{ seen }}{{ flag }}"
    template = ChatTemplate(source, {})
    assert template.render(user("x"), None, True, {"flag": "secret"}) == "1secret"
    assert template.render(user("x"), None, True, {}) == "1"


PLAIN = "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{% endfor %}"
PARTS = (
    "{% for m in messages %}<{{ m.role }}>"
    "{% for part in m.content %}({{ part.text }}){% endfor %}{% endfor %}"
)
EITHER = (
    "{% for m in messages %}<{{ m.role }}>{% if m.content is string %}{{ m.content }}"
    "{% else %}{% for part in m.content %}({{ part['text'] }}){% endfor %}{% endif %}{% endfor %}"
)


@pytest.mark.parametrize(
    ("source", "content", "expected"),
    [
        (PLAIN, "a", "<user>a"),
        (PLAIN, None, "<user>"),
        (PLAIN, [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "<user>a\nb"),
        (PARTS, "a", "<user>(a)"),
        (PARTS, [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "<user>(a)(b)"),
        (EITHER, "a", "<user>(a)"),
        (EITHER, None, "<user>"),
    ],
)
def test_content_has_the_shape_that_the_template_takes(
    source: str, content: Any, expected: str
) -> None:
    assert render(source, user(content)) == expected


@pytest.mark.parametrize(
    "part", [{"type": "image_url"}, {"type": "text"}, 7, {"type": "text", "text": 1}]
)
def test_content_that_is_no_text_is_refused(part: Any) -> None:
    with pytest.raises(InvalidRequest) as refused:
        render(PLAIN, user([part]))
    assert refused.value.param == "messages"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [('{"city": "Rome"}', {"city": "Rome"}), ("not json", {}), ("[1]", {}), ("", {}), (None, {}),
     ({"city": "Rome"}, {"city": "Rome"})],
)  # fmt: skip
def test_tool_calls_carry_their_arguments_as_objects(arguments: Any, expected: Any) -> None:
    call = {"type": "function", "function": {"name": "weather", "arguments": arguments}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    source = "{{ messages[0].tool_calls[0].function.arguments | tojson }}"
    assert json.loads(render(source, [message])) == expected
    assert call["function"]["arguments"] == arguments  # the client's own object is untouched


def test_no_tool_calls_are_none() -> None:
    message = {"role": "assistant", "content": "x", "tool_calls": []}
    assert render("{{ messages[0].tool_calls is defined }}", [message]) == "False"


def test_a_developers_message_is_the_systems_where_the_template_knows_no_developer() -> None:
    messages = [
        {"role": "user", "content": "a"},
        {"role": "developer", "content": "b"},
        {"role": "system", "content": [{"type": "text", "text": "c"}]},
    ]
    assert render(PLAIN, messages) == "<system>b\n\nc<user>a"
    assert render(PLAIN, messages[1:2]) == "<system>b"
    knows = PLAIN + "{# 'developer' #}"
    assert render(knows, messages) == "<user>a<developer>b<system>c"


def test_a_template_that_does_not_compile_is_the_stores_error() -> None:
    with pytest.raises(StoreError):
        ChatTemplate("{% if %}", {})


STRIPPING = "{% for message in messages %}[{{ message.content | trim }}]\n{% endfor %}"
PARTS = (
    "{% for message in messages %}[{% for part in message.content %}{{ part.text }}{% endfor %}]"
    "{% endfor %}"
)


@pytest.mark.parametrize(
    ("source", "content"),
    [
        ("{% for m in messages %}<{{ m.content }}>\n{% endfor %}", "The capital is "),
        (STRIPPING, "  The capital is  "),
        (PARTS, [{"type": "text", "text": "The "}, {"type": "text", "text": "capital"}]),
    ],
)
def test_a_last_message_is_left_open_as_in_transformers(source: str, content: Any) -> None:
    utilities = pytest.importorskip("transformers.utils.chat_template_utils")
    messages = [
        {"role": "user", "content": [{"type": "text", "text": "Q"}] if source == PARTS else "Q"},
        {"role": "assistant", "content": content},
    ]
    theirs, _ = utilities.render_jinja_template(
        [messages],
        # transformers looks for the field's name in the template's text.
        chat_template=source,
        continue_final_message=True,
    )
    assert ChatTemplate(source, {}).render_open(messages, None, {}) == theirs[0]


def test_a_template_without_the_last_message_leaves_nothing_open() -> None:
    template = ChatTemplate("{{ messages[0].content }}", {})
    with pytest.raises(InvalidRequest):
        template.render_open([*user("Hi"), *user("there")], None, {})
    with pytest.raises(InvalidRequest):
        template.render_open([{"role": "assistant", "content": None}], None, {})


def test_levels_beyond_any_use_are_refused_or_left_out() -> None:
    call = {"id": "a", "function": {"name": "f", "arguments": "[" * 100_000}}
    messages = [{"role": "assistant", "content": "", "tool_calls": [call]}]
    source = "{{ messages[0].tool_calls[0].function.arguments | tojson }}{{ deep | tojson }}"
    deep: dict[str, Any] = {}
    for _ in range(5_000):
        deep = {"a": deep}
    assert render(source, messages, deep=1) == "{}1"
    with pytest.raises(InvalidRequest):
        render(source, messages, deep=deep)
