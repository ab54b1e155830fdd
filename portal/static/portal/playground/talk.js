// Chat and completion: asks, answers of one or two models, branches, and what the tab keeps.
(() => {
  "use strict";
  const { answers, config, fill, keep, line, messagesOf, offerCode, recall, settings, showLimits, Turns } = window.sluice.playground;
  const { element } = answers;
  const { words } = config;
  const page = document.querySelector("[data-talk]");
  const [transcript, nothing, said] = [".transcript", "[data-nothing]", "[data-said]"].map((each) => page.querySelector(each));
  const composer = page.querySelector("[data-composer]");
  const draft = composer.querySelector("textarea");
  const [send, stop] = ["[data-send]", "[data-stop]"].map((each) => composer.querySelector(each));
  const choices = [...page.querySelectorAll("[data-lane]")];
  const comparing = page.querySelector("[data-compare]");
  const isChat = config.mode === "chat";

  let turns = new Turns();
  let isCompared = false;
  const running = new Map(); // box → what cancels it

  const lanes = () => (isCompared ? [0, 1] : [0]);
  const modelOf = (lane) => config.models.find((model) => model.name === choices[lane].value);

  // --- Keeping -----------------------------------------------------------------------------------

  const save = () => keep({
    turns: turns.kept(), isCompared, models: choices.map((choice) => choice.value), draft: draft.value, settings: settings.values(),
  });
  let pending = 0;
  const saveSoon = () => { clearTimeout(pending); pending = setTimeout(save, 300); };

  const restore = () => {
    const kept = recall() ?? {};
    turns = new Turns(kept.turns);
    // What was on its way when the page was left will not come any more.
    for (const answer of Object.values(turns.all).flatMap((turn) => turn.answers)) {
      if (answer?.status === "waiting" || answer?.status === "writing") answer.status = "interrupted";
    }
    kept.models?.forEach((name, lane) => {
      if (config.models.some((model) => model.name === name)) choices[lane].value = name;
    });
    if (config.models.some((model) => model.name === config.model)) choices[0].value = config.model;
    isCompared = Boolean(kept.isCompared);
    draft.value ||= kept.draft ?? ""; // somebody may type already
    settings.restore(kept.settings ?? {});
  };

  // --- Asking ------------------------------------------------------------------------------------

  const bodyOf = (chain, lane, chosen) => {
    const body = { model: modelOf(lane).name };
    if (isChat) body.messages = messagesOf(chain, lane, settings.system());
    else body.prompt = chain.at(-1).text;
    return { ...body, ...chosen, stream: true, stream_options: { include_usage: true } };
  };

  // Another branch at a fork, answered by every lane that has something to answer.
  const ask = (at, asked) => {
    const chosen = settings.read();
    if (!chosen || running.size) return false;
    const turn = turns.add(at, asked);
    const chain = turns.path().map((each) => each.turn);
    const asking = lanes().filter((lane) => asked.text !== undefined || asked.results?.[lane]);
    const bodies = asking.map((lane) => bodyOf(chain, lane, chosen));
    asking.forEach((lane) => { turn.answers[lane] = answers.begin(modelOf(lane).name); });
    render();
    asking.forEach((lane, number) => answerIn(turn, lane, bodies[number]));
    transcript.scrollTop = transcript.scrollHeight;
    showRunning();
    save();
    return true;
  };

  const answerIn = (turn, lane, body) => {
    const answer = turn.answers[lane];
    const sentAt = performance.now();
    const token = {};
    const cancel = line.run(body, {
      chunk: (data) => { answers.grow(answer, data, sentAt); refresh(turn, lane); },
      response: (data) => { answers.grow(answer, data, sentAt); refresh(turn, lane); },
      ended: (outcome) => {
        answers.end(answer, { ...outcome, isStopped: token.isStopped }, sentAt);
        running.delete(token);
        showLimits(outcome.headers);
        refresh(turn, lane);
        if (!running.size) finish(answer);
      },
    });
    running.set(token, () => { token.isStopped = true; cancel(); });
  };

  const finish = (answer) => {
    said.textContent = answer.status === "done" ? words.finished : "";
    showRunning();
    requestAnimationFrame(render);
    save();
  };

  const stopAll = () => { for (const end of [...running.values()]) end(); };

  const showRunning = () => {
    const isRunning = running.size > 0;
    send.hidden = isRunning;
    stop.hidden = !isRunning;
    page.classList.toggle("is-running", isRunning);
  };

  // --- Showing -----------------------------------------------------------------------------------

  const boxOf = (turn, lane) => document.getElementById(`answer-${turn.id}-${lane}`);
  const stale = new Set();

  // Once a frame, however many chunks have come.
  const refresh = (turn, lane) => {
    if (!stale.size) requestAnimationFrame(refreshAll);
    stale.add(`${turn.id} ${lane}`);
  };

  const refreshAll = () => {
    const isAtEnd = transcript.scrollHeight - transcript.scrollTop - transcript.clientHeight < 48;
    for (const each of stale) {
      const [id, lane] = each.split(" ");
      const turn = turns.all[id];
      const box = turn && boxOf(turn, lane);
      if (box) answers.show(box, turn.answers[lane]);
    }
    stale.clear();
    if (isAtEnd) transcript.scrollTop = transcript.scrollHeight;
  };

  const button = (label, action, className = "button small plain") => {
    const made = element("button", className, label);
    made.type = "button";
    made.addEventListener("click", action);
    return made;
  };

  const branchSwitch = (at) => {
    const box = element("div", "branches");
    const text = fill(words.branch, { n: at.chosen + 1, all: at.branches.length });
    const turnTo = (step, label, sign) => {
      const made = button(sign, () => { if (!running.size) { turns.choose(at, step); render(); save(); } });
      made.setAttribute("aria-label", label);
      made.disabled = at.chosen + step < 0 || at.chosen + step >= at.branches.length;
      return made;
    };
    box.append(turnTo(-1, words.earlier, "‹"), element("span", "", text), turnTo(1, words.later, "›"));
    return box;
  };

  const edit = (bubble, turn, at) => {
    const form = element("form", "edit field");
    const field = element("textarea");
    field.value = turn.text;
    field.rows = Math.min(10, turn.text.split("\n").length + 1);
    field.setAttribute("aria-label", words.edit);
    const resend = element("button", "button small primary", words.sendEdited);
    const actions = element("div", "actions");
    actions.append(resend, button(words.cancel, render, "button small"));
    form.append(field, actions);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      event.stopPropagation();
      if (field.value.trim()) ask(at, { text: field.value });
    });
    field.addEventListener("keydown", (event) => {
      if (event.key === "Escape") { event.stopPropagation(); render(); }
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); form.requestSubmit(); }
    });
    bubble.replaceChildren(form);
    field.focus();
  };

  const showSaid = (turn, at) => {
    const bubble = element("div", "said");
    bubble.append(element("p", "who", turn.results ? words.results : words.you));
    if (turn.text !== null) bubble.append(element("p", "said-text", turn.text));
    for (const result of (turn.results ?? []).flatMap((each) => each ?? [])) {
      const shown = element("pre", "", result.content);
      shown.tabIndex = 0;
      bubble.append(element("p", "faint", fill(words.resultOf, { name: result.name })), shown);
    }
    const tools = element("div", "said-tools");
    if (at.branches.length > 1) tools.append(branchSwitch(at));
    if (turn.text !== null && isChat) tools.append(button(words.edit, () => { if (!running.size) edit(bubble, turn, at); }));
    tools.append(button(words.retry, () => ask(at, turn.results ? { results: turn.results } : { text: turn.text })));
    bubble.append(tools);
    return bubble;
  };

  // What the model wants to know of its tools, if this is where the conversation stands.
  const showWanted = (turn) => {
    const wanted = lanes().map((lane) => turn.answers[lane]).map((answer) => (answer?.status === "done" ? answer.calls : []));
    if (!wanted.flat().length || turn.next.branches.length) return null;
    const form = element("form", "card-body wanted");
    const fields = wanted.map((calls, lane) => calls.map((call, number) => {
      const field = element("div", "field");
      const label = element("label", "", fill(words.resultOf, { name: call.name }) + (isCompared ? ` · ${turn.answers[lane].model}` : ""));
      const text = element("textarea", "mono");
      label.htmlFor = text.id = `result-${lane}-${number}`;
      text.required = true;
      field.append(label, text);
      form.append(field);
      return { id: call.id, name: call.name, text };
    }));
    const submit = element("button", "button primary", words.sendResults);
    form.append(submit);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      event.stopPropagation();
      const results = fields.map((each) => (each.length ? each.map(({ id, name, text }) => ({ id, name, content: text.value })) : null));
      ask(turn.next, { results });
    });
    return form;
  };

  const showTurn = ({ turn, fork: at }) => {
    const box = element("article", "turn");
    const shown = element("div", "answers");
    const answered = lanes().filter((lane) => turn.answers[lane]);
    for (const lane of answered) {
      const answer = turn.answers[lane];
      const place = element("div", "answer");
      place.id = `answer-${turn.id}-${lane}`;
      answers.show(place, answer);
      shown.append(place);
    }
    shown.classList.toggle("two", answered.length === 2);
    box.append(showSaid(turn, at), shown);
    const wanted = running.size ? null : showWanted(turn);
    if (wanted) box.append(wanted);
    return box;
  };

  const render = () => {
    const path = turns.path();
    nothing.hidden = path.length > 0;
    const at = transcript.scrollTop;
    transcript.replaceChildren(nothing, ...path.map(showTurn));
    transcript.scrollTop = at;
    comparing.setAttribute("aria-pressed", String(isCompared));
    choices[1].hidden = !isCompared;
    settings.suit(lanes().map(modelOf));
  };

  // --- What is clicked, typed and chosen ---------------------------------------------------------

  composer.addEventListener("submit", (event) => {
    event.preventDefault();
    event.stopPropagation();
    if (!draft.value.trim()) { draft.focus(); return; }
    if (!ask(isChat ? turns.end() : turns.root, { text: draft.value })) return;
    if (isChat) draft.value = "";
    fit();
    save();
  });

  draft.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.isComposing) return;
    if (isChat ? event.shiftKey : !(event.ctrlKey || event.metaKey)) return;
    event.preventDefault();
    composer.requestSubmit();
  });

  const TALLEST_PX = 280;
  const fit = () => {
    draft.style.height = "auto";
    draft.style.height = `${Math.min(TALLEST_PX, draft.scrollHeight + 2)}px`;
  };
  draft.addEventListener("input", () => { fit(); saveSoon(); });

  document.addEventListener("keydown", (event) => { if (event.key === "Escape") stopAll(); });
  stop.addEventListener("click", () => { stopAll(); draft.focus(); });

  comparing.addEventListener("click", () => {
    if (running.size) return;
    isCompared = !isCompared;
    if (isCompared && choices[0].value === choices[1].value) {
      const other = config.models.find((model) => model.name !== choices[0].value);
      if (other) choices[1].value = other.name;
    }
    render();
    save();
  });

  page.querySelector("[data-new]").addEventListener("click", () => {
    stopAll();
    turns = new Turns();
    render();
    save();
    draft.focus();
  });

  const copy = async (control, text) => {
    try { await navigator.clipboard.writeText(text); } catch { return; }
    control.textContent = words.copied;
    setTimeout(() => { control.textContent = words.copy; }, 1600);
  };

  transcript.addEventListener("click", (event) => {
    const { copyCode, copyAnswer } = event.target.dataset;
    if (copyCode !== undefined) copy(event.target, event.target.parentElement.querySelector("pre").textContent);
    if (copyAnswer !== undefined) {
      const [, id, lane] = /^answer-(.+)-(\d)$/.exec(event.target.closest(".answer").id);
      copy(event.target, turns.all[id].answers[lane].text);
    }
  });

  for (const choice of choices) choice.addEventListener("change", () => { settings.suit(lanes().map(modelOf)); save(); });
  settings.form.addEventListener("input", saveSoon);
  settings.form.addEventListener("change", saveSoon);
  addEventListener("pagehide", save);

  // The request that “Send” would send, or, while nothing is typed, the last one that was sent.
  const shownChain = () => {
    const chain = turns.path().map((each) => each.turn);
    const unanswered = (turn) => ({ ...turn, answers: [null, null] });
    if (!draft.value.trim() && chain.length) return [...chain.slice(0, -1), unanswered(chain.at(-1))];
    const next = unanswered({ text: draft.value.trim() || "Say hello.", results: null });
    return isChat ? [...chain, next] : [next];
  };

  offerCode(() => {
    const chosen = settings.read();
    if (!chosen) return null;
    return bodyOf(shownChain(), 0, chosen);
  });

  restore();
  render();
  fit();
  transcript.scrollTop = transcript.scrollHeight;
})();
