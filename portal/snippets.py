"""Requests that work as pasted, in the languages of the documentation. Pure."""

from __future__ import annotations

import json
from string import Template

Sample = tuple[str, str, str]  # name, title, text: what ``code_tabs`` takes

CURL = Template("""\
curl $url/v1/chat/completions \\
  -H "Authorization: Bearer $key" \\
  -H "Content-Type: application/json" \\
  -d '{
    "model": $model,
    "messages": [{"role": "user", "content": "Say hello."}]
  }'""")
PYTHON = Template("""\
# pip install openai
${imports}from openai import OpenAI

client = OpenAI(
    base_url="$url/v1",
    api_key=$key,
)
answer = client.chat.completions.create(
    model=$model,
    messages=[{"role": "user", "content": "Say hello."}],
)
print(answer.choices[0].message.content)""")
JAVASCRIPT = Template("""\
// npm install openai
import OpenAI from "openai";

const client = new OpenAI({
  baseURL: "$url/v1",
  apiKey: $key,
});
const answer = await client.chat.completions.create({
  model: $model,
  messages: [{ role: "user", content: "Say hello." }],
});
console.log(answer.choices[0].message.content);""")
EMBED_CURL = Template("""\
curl $url/v1/embeddings \\
  -H "Authorization: Bearer $key" \\
  -H "Content-Type: application/json" \\
  -d '{"model": $model, "input": ["A text.", "Another one."]}'""")
EMBED_PYTHON = Template("""\
# pip install openai
import os
from openai import OpenAI

client = OpenAI(
    base_url="$url/v1",
    api_key=$key,
)
answer = client.embeddings.create(
    model=$model,
    input=["A text.", "Another one."],
)
print(len(answer.data[0].embedding))""")
EMBED_JAVASCRIPT = Template("""\
// npm install openai
import OpenAI from "openai";

const client = new OpenAI({
  baseURL: "$url/v1",
  apiKey: $key,
});
const answer = await client.embeddings.create({
  model: $model,
  input: ["A text.", "Another one."],
});
console.log(answer.data[0].embedding.length);""")
# No client of OpenAI's knows it.
RERANK_CURL = Template("""\
curl $url/v1/rerank \\
  -H "Authorization: Bearer $key" \\
  -H "Content-Type: application/json" \\
  -d '{"model": $model, "query": "What is a sluice?", "documents": ["A gate for water.", "A bird."]}'""")
NO_MODEL = "MODEL"


def chat_samples(url: str, model: str = "", secret: str = "") -> list[Sample]:
    """A chat by curl, Python and JavaScript; without ``secret`` by the variable that holds it."""
    known = {"url": url.rstrip("/"), "model": json.dumps(model or NO_MODEL)}
    quoted = json.dumps(secret)
    python = {"imports": "" if secret else "import os\n",
              "key": quoted if secret else 'os.environ["OPENAI_API_KEY"]'}  # fmt: skip
    script = {"key": quoted if secret else "process.env.OPENAI_API_KEY"}
    return [
        ("curl", "curl", CURL.substitute(known, key=secret or "$OPENAI_API_KEY")),
        ("python", "Python", PYTHON.substitute(known, **python)),
        ("javascript", "JavaScript", JAVASCRIPT.substitute(known, **script)),
    ]


def embedding_samples(url: str, model: str) -> list[Sample]:
    """Two texts as vectors, by the variable that holds the key."""
    known = {"url": url.rstrip("/"), "model": json.dumps(model)}
    python, script = 'os.environ["OPENAI_API_KEY"]', "process.env.OPENAI_API_KEY"
    return [
        ("curl", "curl", EMBED_CURL.substitute(known, key="$OPENAI_API_KEY")),
        ("python", "Python", EMBED_PYTHON.substitute(known, key=python)),
        ("javascript", "JavaScript", EMBED_JAVASCRIPT.substitute(known, key=script)),
    ]


def rerank_samples(url: str, model: str) -> list[Sample]:
    known = {"url": url.rstrip("/"), "model": json.dumps(model)}
    return [("curl", "curl", RERANK_CURL.substitute(known, key="$OPENAI_API_KEY"))]
