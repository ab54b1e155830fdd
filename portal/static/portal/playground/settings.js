// The form of a request's parameters: numbers with sliders, the two editors of JSON, and what of
// them goes into a body. What is empty is left to the model.
(() => {
  "use strict";
  const { config, fill } = window.sluice.playground;
  const form = document.querySelector("[data-settings]");
  const { words } = config;

  const complain = (field, text) => {
    const note = document.getElementById(`${field.id}-error`);
    note.textContent = text;
    note.hidden = !text;
    if (text) field.setAttribute("aria-invalid", "true");
    else field.removeAttribute("aria-invalid");
    return !text;
  };

  // --- Numbers -----------------------------------------------------------------------------------

  const numbers = [...form.querySelectorAll(".knob input[type=number]")];
  const sliderOf = (field) => form.querySelector(`[data-for="${field.name}"]`);

  const checkNumber = (field) => {
    const { badInput, rangeOverflow, rangeUnderflow, stepMismatch } = field.validity;
    const isWrong = badInput || rangeOverflow || rangeUnderflow || stepMismatch;
    return complain(field, isWrong ? fill(words.outOfRange, { least: field.min, most: field.max }) : "");
  };

  for (const field of numbers) {
    const slider = sliderOf(field);
    field.addEventListener("input", () => {
      checkNumber(field);
      showSlider(field);
    });
    slider?.addEventListener("input", () => {
      field.value = slider.value;
      checkNumber(field);
      showSlider(field);
      field.dispatchEvent(new Event("change", { bubbles: true }));
    });
  }

  // A parameter that is left to the model has a pale slider.
  const showSlider = (field) => {
    const slider = sliderOf(field);
    if (!slider) return;
    slider.classList.toggle("unset", !field.value);
    slider.value = field.value || slider.defaultValue;
  };

  // --- Editors -----------------------------------------------------------------------------------

  const parsed = (field) => {
    try {
      return { value: JSON.parse(field.value) };
    } catch (error) {
      complain(field, fill(words.notJson, { why: error.message }));
      return null;
    }
  };

  const isTool = (each) => each?.type === "function" && typeof each.function?.name === "string" && each.function.name !== "";

  // The list, null if there is none, undefined if it is wrong.
  const readTools = () => {
    const field = form.elements.tools;
    const count = form.querySelector("[data-tool-count]");
    if (!field || !field.value.trim()) {
      if (field) { complain(field, ""); count.hidden = true; }
      return null;
    }
    const found = parsed(field);
    if (!found) return undefined;
    const isList = Array.isArray(found.value) && found.value.length > 0 && found.value.every(isTool);
    if (!complain(field, isList ? "" : words.notTools)) return undefined;
    count.textContent = found.value.length;
    count.hidden = false;
    return found.value;
  };

  const readSchema = () => {
    const field = form.elements.schema;
    if (!field.value.trim()) { complain(field, words.notSchema); return undefined; }
    const found = parsed(field);
    if (!found) return undefined;
    const isObject = found.value !== null && typeof found.value === "object" && !Array.isArray(found.value);
    return complain(field, isObject ? "" : words.notSchema) ? found.value : undefined;
  };

  // Undefined if the schema is wrong, null for text.
  const readFormat = () => {
    const kind = form.elements.format?.value;
    if (!kind) return null;
    if (kind === "json_object") return { type: kind };
    const schema = readSchema();
    return schema && { type: kind, json_schema: { name: "answer", strict: true, schema } };
  };

  const readStops = () => {
    const field = form.elements.stop;
    const stops = field.value.split("\n").filter((line) => line !== "");
    const isFew = stops.length <= config.mostStops;
    return complain(field, isFew ? "" : fill(words.outOfRange, { least: 0, most: config.mostStops })) ? stops : undefined;
  };

  // --- Bodies ------------------------------------------------------------------------------------

  const TOKENS = { chat: "max_completion_tokens", completion: "max_tokens" };

  // The fields of a body, or null where something is wrong; the first such field gets the focus.
  const read = () => {
    const areRight = numbers.map(checkNumber).every(Boolean);
    const [stops, tools, format] = [readStops(), readTools(), readFormat()];
    if (!areRight || stops === undefined || tools === undefined || format === undefined) {
      const wrong = form.querySelector("[aria-invalid]");
      const folded = wrong.closest("details");
      if (folded) folded.open = true;
      wrong.focus();
      return null;
    }
    const body = {};
    for (const field of numbers) {
      const name = field.name === "max_tokens" ? TOKENS[config.mode] : field.name;
      if (field.value) body[name] = Number(field.value);
    }
    if (stops.length) body.stop = stops;
    if (tools) body.tools = tools;
    if (format) body.response_format = format;
    return body;
  };

  const FIELDS = ["system", "stop", "format", "schema", "tools", ...numbers.map((field) => field.name)];
  const own = (name) => form.elements[name];

  const values = () => Object.fromEntries(FIELDS.filter(own).map((name) => [name, own(name).value]));

  const showFormat = () => {
    const schema = form.querySelector("[data-schema]");
    if (schema) schema.hidden = own("format").value !== "json_schema";
  };

  const restore = (kept) => {
    for (const name of FIELDS.filter(own)) if (typeof kept[name] === "string") own(name).value = kept[name];
    numbers.forEach(showSlider);
    showFormat();
    readTools();
  };

  // A model's own bounds: its context, and whether it calls tools.
  const suit = (models) => {
    const tokens = own("max_tokens");
    tokens.max = Math.min(...models.map((model) => model.context));
    sliderOf(tokens).max = tokens.max;
    checkNumber(tokens);
    const tools = own("tools");
    if (!tools) return;
    const without = models.find((model) => !model.tools);
    tools.disabled = Boolean(without);
    const help = document.getElementById("set-tools-help");
    help.dataset.text ??= help.textContent;
    help.textContent = without ? fill(words.noTools, { model: without.name }) : help.dataset.text;
  };

  form.addEventListener("change", showFormat);
  form.addEventListener("reset", () => setTimeout(() => {
    numbers.forEach((field) => { checkNumber(field); showSlider(field); });
    showFormat();
    form.dispatchEvent(new Event("change", { bubbles: true }));
  }));
  form.addEventListener("submit", (event) => { event.preventDefault(); event.stopPropagation(); });
  for (const name of ["tools", "schema"]) {
    own(name)?.addEventListener("change", name === "tools" ? readTools : () => own("schema").value && readSchema());
  }

  window.sluice.playground.settings = { form, read, restore, suit, values, system: () => own("system")?.value.trim() ?? "" };
})();
