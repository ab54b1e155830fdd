// Embeddings compared: two to eight texts, and how alike each two are to the model.
(() => {
  "use strict";
  const { config, fill, keep, line, offerCode, problemBox, recall, showLimits } = window.sluice.playground;
  const { words } = config;
  const page = document.querySelector("[data-embeddings]");
  const form = page.querySelector("[data-texts]");
  const list = form.querySelector(".texts");
  const [add, send, model] = ["[data-add]", "[data-send]", "[data-lane]"].map((each) => form.querySelector(each));
  const matrix = page.querySelector("[data-matrix]");
  const EXAMPLES = ["The cat sleeps on the sofa.", "A kitten naps on the couch.", "Shares fell after the announcement."];
  const write = (number, digits) => number.toLocaleString(document.documentElement.lang, { minimumFractionDigits: digits, maximumFractionDigits: digits });

  const element = (tag, className, text) => {
    const made = document.createElement(tag);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  };

  // --- Texts -------------------------------------------------------------------------------------

  const fields = () => [...list.querySelectorAll("textarea")];
  const texts = () => fields().map((field) => field.value);
  const save = () => keep({ texts: texts(), model: model.value });

  const addText = (text) => {
    const item = element("li", "field");
    const field = element("textarea");
    field.rows = 2;
    field.value = text;
    const remove = element("button", "icon-button", "×");
    remove.type = "button";
    remove.addEventListener("click", () => { item.remove(); number(); save(); });
    const error = element("p", "errors");
    error.hidden = true;
    item.append(field, remove, error);
    list.append(item);
  };

  const number = () => {
    [...list.children].forEach((item, at) => {
      const [field, remove, error] = item.children;
      field.setAttribute("aria-label", fill(words.text, { n: at + 1 }));
      remove.setAttribute("aria-label", fill(words.remove, { n: at + 1 }));
      remove.disabled = list.children.length <= config.fewestTexts;
      error.id = `text-${at}-error`;
      field.setAttribute("aria-describedby", error.id);
    });
    add.disabled = list.children.length >= config.mostTexts;
  };

  // Marks what is empty; whether all is well.
  const check = () => {
    for (const field of fields()) {
      const isEmpty = !field.value.trim();
      const error = field.parentElement.lastChild;
      error.textContent = isEmpty ? words.emptyText : "";
      error.hidden = !isEmpty;
      if (isEmpty) field.setAttribute("aria-invalid", "true");
      else field.removeAttribute("aria-invalid");
    }
    list.querySelector("[aria-invalid]")?.focus();
    return !list.querySelector("[aria-invalid]");
  };

  // --- Likeness ----------------------------------------------------------------------------------

  const dot = (a, b) => a.reduce((sum, each, at) => sum + each * b[at], 0);
  const cosine = (a, b) => dot(a, b) / (Math.sqrt(dot(a, a)) * Math.sqrt(dot(b, b)) || 1);

  const head = (at, scope) => {
    const cell = element("th", "", String(at + 1));
    cell.scope = scope;
    cell.title = texts()[at];
    return cell;
  };

  const table = (vectors) => {
    const made = element("table", "likeness");
    const first = element("tr");
    const corner = element("td");
    first.append(corner, ...vectors.map((_, at) => head(at, "col")));
    made.createTHead().append(first);
    const body = made.createTBody();
    vectors.forEach((row, at) => {
      const line_ = element("tr");
      line_.append(head(at, "row"));
      for (const column of vectors) {
        const likeness = cosine(row, column);
        const cell = element("td", "number", write(likeness, 3));
        cell.style.setProperty("--likeness", `${Math.round(Math.max(0, likeness) * 55)}%`);
        line_.append(cell);
      }
      body.append(line_);
    });
    return made;
  };

  const show = (answer, ms) => {
    const vectors = [...answer.data].sort((a, b) => a.index - b.index).map((each) => each.embedding);
    const frame = element("div", "table-scroll");
    frame.append(table(vectors));
    const told = fill(words.embedded, {
      tokens: write(answer.usage.prompt_tokens, 0), size: write(vectors[0].length, 0), ms: write(ms, 0),
    });
    matrix.replaceChildren(frame, element("p", "faint", told));
  };

  // --- What is clicked and typed -------------------------------------------------------------------

  const body = () => ({ model: model.value, input: texts() });

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    event.stopPropagation();
    if (!check() || send.disabled) return;
    const sentAt = performance.now();
    let answer = null;
    send.disabled = true;
    matrix.setAttribute("aria-busy", "true");
    save();
    line.run(body(), {
      chunk: () => {},
      response: (data) => { answer = data; },
      ended: ({ problem, headers }) => {
        send.disabled = false;
        matrix.removeAttribute("aria-busy");
        showLimits(headers);
        if (problem) matrix.replaceChildren(problemBox(problem));
        else show(answer, performance.now() - sentAt);
      },
    });
  });

  add.addEventListener("click", () => { addText(""); number(); fields().at(-1).focus(); save(); });
  form.addEventListener("input", save);
  offerCode(body);

  const kept = recall();
  for (const text of kept?.texts?.length >= config.fewestTexts ? kept.texts : EXAMPLES) addText(text);
  const wanted = [config.model, kept?.model].find((name) => config.models.some((each) => each.name === name));
  if (wanted) model.value = wanted;
  number();
})();
