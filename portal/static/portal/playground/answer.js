// One answer: how it grows by the chunks of a stream, what was measured, and how it is shown.
(() => {
  "use strict";
  const { config, fill, problemBox, writeProse } = window.sluice.playground;
  const { words } = config;
  // Shorter than this a stream came at once, and a rate would be that of the network.
  const SHORTEST_S = 0.05;
  const write = (number, digits = 0) => number.toLocaleString(document.documentElement.lang, { maximumFractionDigits: digits });

  const begin = (model) => ({
    model, status: "waiting", text: "", reasoning: "", calls: [], finish: "", usage: null,
    firstMs: null, totalMs: null, isCached: false, problem: null,
  });

  const addCall = (answer, { index, id, function: called }) => {
    const call = (answer.calls[index] ??= { id: "", name: "", arguments: "" });
    call.id ||= id ?? "";
    call.name += called?.name ?? "";
    call.arguments += called?.arguments ?? "";
  };

  // sentAt: performance.now() of the request.
  const grow = (answer, chunk, sentAt) => {
    if (chunk.usage) answer.usage = chunk.usage;
    const choice = chunk.choices?.[0];
    if (!choice) return;
    const delta = choice.delta ?? { content: choice.text };
    const reasoning = delta.reasoning_content ?? delta.reasoning ?? "";
    if (delta.content || reasoning || delta.tool_calls) {
      answer.firstMs ??= performance.now() - sentAt;
      answer.status = "writing";
    }
    answer.text += delta.content ?? "";
    answer.reasoning += reasoning;
    for (const each of delta.tool_calls ?? []) addCall(answer, each);
    if (choice.finish_reason) answer.finish = choice.finish_reason;
  };

  const end = (answer, { problem, headers, isStopped }, sentAt) => {
    answer.totalMs = performance.now() - sentAt;
    answer.isCached = /hit$/.test(headers["x-sluice-cache"] ?? "");
    if (problem) answer.problem = { code: problem.code, message: problem.message, retryS: retryOf(headers) };
    answer.status = problem ? "failed" : isStopped ? "stopped" : "done";
  };

  const retryOf = (headers) => Number(headers["retry-after"]) || null;

  // --- Shown -------------------------------------------------------------------------------------

  const element = (tag, className, text) => {
    const made = document.createElement(tag);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  };

  const figures = (answer) => {
    const told = [];
    const { usage } = answer;
    if (usage) {
      told.push(fill(words.tokens, { in: write(usage.prompt_tokens), out: write(usage.completion_tokens ?? 0) }));
      const cached = usage.prompt_tokens_details?.cached_tokens;
      if (cached) told.push(fill(words.cached, { n: write(cached) }));
    }
    if (answer.firstMs !== null) told.push(fill(words.firstToken, { ms: write(answer.firstMs) }));
    const streamedS = (answer.totalMs - answer.firstMs) / 1000;
    // The first token came with the first chunk: the rate is of those after it.
    if (usage?.completion_tokens > 1 && answer.firstMs !== null && streamedS > SHORTEST_S) {
      told.push(fill(words.speed, { n: write((usage.completion_tokens - 1) / streamedS, 1) }));
    }
    if (answer.totalMs !== null) told.push(fill(words.total, { s: write(answer.totalMs / 1000, 2) }));
    if (answer.isCached) told.push(words.fromCache);
    return told;
  };

  const notes = (answer) => {
    if (answer.status === "stopped") return words.stopped;
    if (answer.status === "interrupted") return words.interrupted;
    if (answer.finish === "length") return words.length;
    if (answer.finish === "content_filter") return words.filtered;
    const isEmpty = answer.status === "done" && !answer.text && !answer.reasoning && !answer.calls.length;
    return isEmpty ? words.empty : "";
  };

  const showCalls = (answer) => answer.calls.filter(Boolean).map((call) => {
    const box = element("div", "call");
    box.append(element("p", "call-name", fill(words.callOf, { name: call.name })));
    const code = element("pre");
    code.tabIndex = 0;
    let shown = call.arguments;
    try { shown = JSON.stringify(JSON.parse(call.arguments), null, 2); } catch { /* not whole yet */ }
    code.append(element("code", "", shown));
    box.append(code);
    return box;
  });

  const showReasoning = (answer, wasOpen) => {
    const details = element("details", "disclosure reasoning");
    details.open = wasOpen ?? answer.status === "writing";
    details.append(element("summary", "", words.thinking), element("p", "", answer.reasoning));
    return details;
  };

  // Replaces what the box holds; called once a frame while the answer grows.
  const show = (box, answer) => {
    const parts = [element("p", "answer-model", answer.model)];
    if (answer.reasoning) parts.push(showReasoning(answer, box.querySelector(".reasoning")?.open));
    if (answer.status === "waiting") parts.push(element("p", "faint waiting", words.waiting));
    if (answer.text && config.mode === "completion") parts.push(element("pre", "plain-text", answer.text));
    else if (answer.text) {
      const prose = element("div", "prose");
      writeProse(prose, answer.text);
      parts.push(prose);
    }
    parts.push(...showCalls(answer));
    const note = notes(answer);
    if (note) parts.push(element("p", "faint note", note));
    if (answer.problem) {
      const problem = problemBox(answer.problem);
      if (answer.problem.retryS) problem.firstChild.append(element("p", "faint", fill(words.retryIn, { s: answer.problem.retryS })));
      parts.push(problem);
    }
    if (answer.status !== "waiting" && answer.status !== "writing") parts.push(foot(answer));
    box.setAttribute("aria-busy", String(answer.status === "waiting" || answer.status === "writing"));
    box.replaceChildren(...parts);
  };

  const foot = (answer) => {
    const made = element("div", "answer-foot");
    const list = element("ul", "figures");
    for (const text of figures(answer)) list.append(element("li", "", text));
    made.append(list);
    if (answer.text) {
      const copy = element("button", "copy", words.copy);
      copy.type = "button";
      copy.dataset.copyAnswer = "";
      made.append(copy);
    }
    return made;
  };

  window.sluice.playground.answers = { begin, end, element, grow, show };
})();
