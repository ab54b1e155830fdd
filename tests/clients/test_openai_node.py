"""OpenAI's JavaScript client in Node.js: one program a capability, which prints JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.clients.conftest import Program

BEGIN = """
import OpenAI from "openai";
const client = new OpenAI({ maxRetries: 0 });
const base = {
  model: "smollm2-135m-instruct", temperature: 0, max_tokens: 64,
  messages: [{ role: "user", content: "What is the capital of France?" }],
};
const place = {
  type: "object", properties: { city: { enum: ["Paris", "Rome"] }, country: { enum: ["France", "Italy"] } },
  required: ["city", "country"], additionalProperties: false,
};
const show = (value) => console.log(JSON.stringify(value));
"""


@pytest.fixture(scope="module")
def run(javascript: Program) -> Any:
    return lambda text, **more: json.loads(javascript(BEGIN + text, **more))


def test_a_stream_by_the_clients_accumulator(run: Any) -> None:
    shown = run("""
const pieces = [];
const stream = client.chat.completions.stream(base);
stream.on("content", (delta) => pieces.push(delta));
const final = await stream.finalChatCompletion();
show([pieces, final.choices[0].message.content, final.choices[0].finish_reason]);
""")
    assert len(shown[0]) > 3 and "".join(shown[0]) == shown[1]
    assert "Paris" in shown[1] and shown[2] == "stop"


def test_a_tool_is_run_by_the_client(run: Any) -> None:
    """``runTools`` calls the function and asks again with what it returned."""
    shown = run("""
const seen = [];
const weather = {
  type: "function",
  function: {
    name: "get_weather", strict: true, parse: JSON.parse,
    parameters: { ...place, properties: { city: { enum: ["Paris"] } }, required: ["city"] },
    function: ({ city }) => { seen.push(city); return "It is sunny."; },
  },
};
const runner = client.chat.completions.runTools({
  ...base, max_tokens: 128, tools: [weather], tool_choice: { type: "function", function: { name: "get_weather" } },
});
const final = await runner.finalFunctionToolCallResult();
show([seen, final]);
""")
    assert shown == [["Paris"], "It is sunny."]


def test_structured_output_and_responses(run: Any) -> None:
    shown = run("""
const format = { type: "json_schema", json_schema: { name: "place", schema: place } };
const chat = await client.chat.completions.create({ ...base, response_format: format });
const stream = await client.responses.create({
  model: base.model, input: "The capital of France?", temperature: 0, stream: true,
  text: { format: { type: "json_schema", name: "place", schema: place } },
});
const types = [];
let text = "";
for await (const event of stream) {
  types.push(event.type);
  if (event.type === "response.output_text.delta") text += event.delta;
}
show([chat.choices[0].message.content, text, types[0], types.at(-1)]);
""")
    for text in shown[:2]:
        assert set(json.loads(text)) == {"city", "country"}
    assert shown[2:] == ["response.created", "response.completed"]


def test_embeddings(run: Any) -> None:
    shown = run("""
const answer = await client.embeddings.create({
  model: "all-minilm-l6-v2", input: ["A cat sat.", "Prices rose."],
});
show(answer.data.map((item) => [
  item.embedding.length, item.embedding.reduce((sum, value) => sum + value * value, 0),
]));
""")
    assert [size for size, _ in shown] == [384, 384]
    assert all(abs(norm - 1) < 1e-3 for _, norm in shown)


def test_a_refusal_is_the_error_that_programs_catch(run: Any, spent_key: str) -> None:
    shown = run(
        """
const refused = async (call) => {
  try { await call(); } catch (error) {
    return [error.constructor.name, error.status, error.code, error.param, !!error.requestID];
  }
};
const asking = (apiKey) => () => client.withOptions({ apiKey }).chat.completions.create(base);
show([
  await refused(() => client.chat.completions.create({ ...base, model: "gpt-nothing" })),
  await refused(() => client.chat.completions.create({ ...base, n: 99 })),
  await refused(asking("sk-proj-wrong")),
  await refused(asking(process.env.SLUICE_ADMIN_KEY)),
  await refused(asking(process.env.SPENT_KEY)),
]);
""",
        SPENT_KEY=spent_key,
    )
    assert shown == [
        ["NotFoundError", 404, "model_not_found", "model", True],
        ["BadRequestError", 400, "invalid_type", "n", True],
        ["AuthenticationError", 401, "invalid_api_key", None, True],
        ["PermissionDeniedError", 403, "insufficient_permissions", None, True],
        ["RateLimitError", 429, "rate_limit_exceeded", None, True],
    ]
