// “View code”: the request that would be sent next, as a program would send it.
(() => {
  "use strict";
  const { config } = window.sluice.playground;
  const origin = location.origin;

  // JSON as a Python literal.
  const python = (value, indent) => {
    if (value === null) return "None";
    if (value === true) return "True";
    if (value === false) return "False";
    const inner = `${indent}    `;
    if (Array.isArray(value)) {
      if (!value.length) return "[]";
      return `[\n${value.map((each) => `${inner}${python(each, inner)},\n`).join("")}${indent}]`;
    }
    if (typeof value === "object") {
      const pairs = Object.entries(value).map(([name, each]) => `${inner}${JSON.stringify(name)}: ${python(each, inner)},\n`);
      return pairs.length ? `{\n${pairs.join("")}${indent}}` : "{}";
    }
    return JSON.stringify(value);
  };

  const curl = (body) => [
    `curl ${origin}${config.endpoint} \\`,
    '  -H "Authorization: Bearer $OPENAI_API_KEY" \\',
    '  -H "Content-Type: application/json" \\',
    ...(body.stream ? ["  --no-buffer \\"] : []),
    `  -d '${JSON.stringify(body, null, 2).replaceAll("'", "'\\''")}'`,
  ].join("\n");

  const METHODS = {
    chat: "chat.completions.create",
    completion: "completions.create",
    embeddings: "embeddings.create",
  };

  const PYTHON_ENDS = {
    chat: ["for chunk in stream:", "    if chunk.choices:", '        print(chunk.choices[0].delta.content or "", end="", flush=True)'],
    completion: ["for chunk in stream:", "    if chunk.choices:", '        print(chunk.choices[0].text, end="", flush=True)'],
    embeddings: ["print([len(each.embedding) for each in answer.data])"],
  };

  const pythonOf = (body) => [
    "# pip install openai", "import os", "from openai import OpenAI", "",
    `client = OpenAI(base_url="${origin}/v1", api_key=os.environ["OPENAI_API_KEY"])`,
    `${body.stream ? "stream" : "answer"} = client.${METHODS[config.mode]}(`,
    ...Object.entries(body).map(([name, value]) => `    ${name}=${python(value, "    ")},`),
    ")",
    ...PYTHON_ENDS[config.mode],
  ].join("\n");

  const SCRIPT_ENDS = {
    chat: ["for await (const chunk of stream) {", '  process.stdout.write(chunk.choices[0]?.delta?.content ?? "");', "}"],
    completion: ["for await (const chunk of stream) {", '  process.stdout.write(chunk.choices[0]?.text ?? "");', "}"],
    embeddings: ["console.log(answer.data.map((each) => each.embedding.length));"],
  };

  const scriptOf = (body) => [
    "// npm install openai", 'import OpenAI from "openai";', "",
    `const client = new OpenAI({ baseURL: "${origin}/v1", apiKey: process.env.OPENAI_API_KEY });`,
    `const ${body.stream ? "stream" : "answer"} = await client.${METHODS[config.mode]}(${JSON.stringify(body, null, 2)});`,
    ...SCRIPT_ENDS[config.mode],
  ].join("\n");

  // next() gives the body; it may throw what its form says better itself.
  window.sluice.playground.offerCode = (next) => {
    const dialog = document.querySelector(".play-code");
    document.querySelector("[data-show-code]").addEventListener("click", () => {
      const body = next();
      if (!body) return;
      document.getElementById("play-curl").textContent = curl(body);
      document.getElementById("play-python").textContent = pythonOf(body);
      document.getElementById("play-javascript").textContent = scriptOf(body);
      dialog.showModal();
    });
    dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  };
})();
