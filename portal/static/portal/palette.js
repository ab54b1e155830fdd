// The command palette: Ctrl+K or ⌘K, a few letters, Enter. The server searches; what it found
// is put together of text, never of HTML.
(() => {
  "use strict";
  const palette = document.getElementById("palette");
  const field = palette.querySelector("input");
  const list = palette.querySelector("[role=listbox]");
  const PAUSE_MS = 110; // between two letters of a fast typist nothing is asked
  const PATIENCE_MS = 5000;
  let asked = 0;
  let timer = 0;

  const say = (text) => {
    const note = document.createElement("p");
    note.className = "palette-note";
    note.setAttribute("role", "status");
    note.textContent = text;
    list.replaceChildren(note);
    field.removeAttribute("aria-activedescendant");
  };

  const option = (found, number) => {
    const link = document.createElement("a");
    link.href = found.url;
    link.id = `found-${number}`;
    link.tabIndex = -1;
    link.setAttribute("role", "option");
    const label = document.createElement("span");
    label.textContent = found.label;
    link.append(label);
    if (found.hint) {
      const hint = document.createElement("span");
      hint.className = "hint";
      hint.textContent = found.hint;
      link.append(hint);
    }
    return link;
  };

  const show = (groups) => {
    if (!groups.length) { say(palette.dataset.nothing); return; }
    let number = 0;
    const parts = groups.map((group) => {
      const part = document.createElement("div");
      part.setAttribute("role", "group");
      part.setAttribute("aria-label", group.title);
      const heading = document.createElement("p");
      heading.className = "heading";
      heading.setAttribute("aria-hidden", "true");
      heading.textContent = group.title;
      part.append(heading, ...group.items.map((found) => option(found, number++)));
      return part;
    });
    list.replaceChildren(...parts);
    choose(0);
  };

  const options = () => [...list.querySelectorAll("[role=option]")];

  const choose = (at) => {
    const all = options();
    if (!all.length) return;
    const chosen = all[(at + all.length) % all.length];
    for (const each of all) each.setAttribute("aria-selected", String(each === chosen));
    field.setAttribute("aria-activedescendant", chosen.id);
    chosen.scrollIntoView({ block: "nearest" });
  };

  const chosenAt = () => options().findIndex((each) => each.getAttribute("aria-selected") === "true");

  // An answer that comes after a later question is thrown away.
  const ask = async () => {
    const number = ++asked;
    const address = new URL(palette.dataset.source, location.href);
    address.search = new URLSearchParams({ format: "json", q: field.value });
    try {
      const response = await fetch(address, { signal: AbortSignal.timeout(PATIENCE_MS) });
      if (!response.ok) throw new Error(String(response.status));
      const { groups } = await response.json();
      if (number === asked) show(groups);
    } catch {
      if (number === asked) say(palette.dataset.failed);
    }
  };

  const open = () => {
    if (palette.open) return;
    document.querySelector(".sidebar:popover-open")?.hidePopover();
    field.value = "";
    list.replaceChildren();
    palette.showModal();
    field.focus();
    ask();
  };

  document.addEventListener("keydown", (event) => {
    if ((event.ctrlKey || event.metaKey) && !event.altKey && event.key.toLowerCase() === "k") {
      event.preventDefault();
      if (palette.open) palette.close();
      else open();
    }
  });

  document.addEventListener("click", (event) => {
    const opener = event.target.closest("[data-palette]");
    if (opener && !event.ctrlKey && !event.metaKey) {
      event.preventDefault();
      open();
    }
    if (event.target === palette) palette.close();
  });

  field.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(ask, PAUSE_MS);
  });

  field.addEventListener("keydown", (event) => {
    const steps = { ArrowDown: 1, ArrowUp: -1 };
    if (event.key in steps) {
      event.preventDefault();
      choose(chosenAt() + steps[event.key]);
    } else if (event.key === "Escape") {
      palette.close(); // the first one would only empty a search field
    } else if (event.key === "Enter") {
      event.preventDefault();
      options()[chosenAt()]?.click();
    }
  });
})();
