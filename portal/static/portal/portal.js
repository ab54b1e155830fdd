// What a script makes nicer. Every page works without it.
(() => {
  "use strict";
  const root = document.documentElement;
  const words = document.currentScript.dataset;
  root.classList.add("js");

  const A_YEAR_S = 365 * 24 * 3600;
  const remember = (name, value) => {
    const secure = location.protocol === "https:" ? "; Secure" : "";
    document.cookie = `${name}=${encodeURIComponent(value)}; Path=/; Max-Age=${A_YEAR_S}; SameSite=Lax${secure}`;
  };

  // The server writes times in the browser's zone unless the profile names one.
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  if (zone && !document.cookie.split("; ").includes(`zone=${encodeURIComponent(zone)}`)) remember("zone", zone);

  // --- Copying -------------------------------------------------------------------------------

  const announce = (button, text) => {
    const label = button.textContent;
    button.textContent = text;
    button.disabled = true;
    setTimeout(() => { button.textContent = label; button.disabled = false; }, 1600);
  };

  // Without the clipboard (plain http on another host) the text is selected for Ctrl+C.
  const copy = async (button) => {
    const source = document.getElementById(button.dataset.copy);
    try {
      await navigator.clipboard.writeText(source.textContent);
      announce(button, words.copied);
    } catch {
      getSelection().selectAllChildren(source);
      announce(button, words.press);
    }
  };

  // --- Toasts --------------------------------------------------------------------------------

  const STAYS_MS = 7000;
  const fade = (toast) => setTimeout(() => toast.remove(), STAYS_MS);

  // tone: success, info, warning, error; what went wrong stays until it is dismissed.
  const toast = (text, tone = "info") => {
    const item = document.createElement("li");
    item.className = `toast ${tone}`;
    const said = document.createElement("p");
    said.textContent = text;
    const close = document.createElement("button");
    close.type = "button";
    close.dataset.dismiss = "";
    close.setAttribute("aria-label", words.dismissLabel);
    close.textContent = "×";
    item.append(said, close);
    document.querySelector(".toasts ol").append(item);
    if (tone === "success" || tone === "info") fade(item);
  };

  // --- Dialogs -------------------------------------------------------------------------------

  // A link with data-dialog leads to a page with one form; here it opens on top of this page.
  // Whatever goes wrong, the link is followed as without script.
  const openDialog = async (link) => {
    try {
      const response = await fetch(link.href, { headers: { "X-Requested-With": "dialog" } });
      if (!response.ok || response.redirected) throw new Error(String(response.status));
      const page = new DOMParser().parseFromString(await response.text(), "text/html");
      const form = page.querySelector("main form[method=post]");
      const title = page.querySelector("main h1");
      form.setAttribute("action", form.getAttribute("action") || link.href);
      showDialog(title.textContent, form);
    } catch {
      location.assign(link.href);
    }
  };

  const showDialog = (title, content) => {
    const dialog = document.createElement("dialog");
    dialog.className = "dialog";
    const head = document.createElement("div");
    head.className = "dialog-head";
    const heading = document.createElement("h2");
    heading.id = "dialog-title";
    heading.textContent = title;
    const close = document.createElement("button");
    close.type = "button";
    close.className = "icon-button";
    close.setAttribute("aria-label", words.dismissLabel);
    close.textContent = "×";
    close.addEventListener("click", () => dialog.close());
    head.append(heading, close);
    dialog.setAttribute("aria-labelledby", heading.id);
    dialog.append(head, document.adoptNode(content));
    for (const way of content.querySelectorAll("a.button")) {
      way.addEventListener("click", (event) => { event.preventDefault(); dialog.close(); });
    }
    dialog.addEventListener("close", () => dialog.remove());
    dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
    document.body.append(dialog);
    dialog.showModal();
  };

  // --- Theme ---------------------------------------------------------------------------------

  const choose = (form, theme) => {
    if (theme === "system") delete root.dataset.theme;
    else root.dataset.theme = theme;
    for (const button of form.querySelectorAll("[name=theme]")) {
      button.setAttribute("aria-pressed", String(button.value === theme));
    }
    const body = new FormData(form);
    body.set("theme", theme);
    fetch(form.action, { method: "POST", body, redirect: "manual" }).catch(() => {});
  };

  // --- Charts --------------------------------------------------------------------------------

  // The figures of the slot under the pointer, read from the table behind the picture.
  const tell = (chart, slot) => {
    let tip = chart.querySelector(".chart-tip");
    if (!tip) {
      tip = document.createElement("div");
      tip.className = "chart-tip";
      tip.setAttribute("aria-hidden", "true");
      chart.append(tip);
      for (const title of chart.querySelectorAll("g > title")) title.remove(); // else told twice
    }
    const slots = [...chart.querySelectorAll("rect.slot")];
    for (const each of slots) each.classList.toggle("on", each === slot);
    const table = chart.nextElementSibling.querySelector("table");
    const cells = table.tBodies[0].rows[slots.indexOf(slot)].cells;
    const heading = document.createElement("p");
    heading.textContent = cells[0].textContent;
    const list = document.createElement("dl");
    for (let at = cells.length - 1; at > 0; at -= 1) {
      const name = document.createElement("dt");
      name.className = `s${at}`;
      name.textContent = table.tHead.rows[0].cells[at].textContent;
      const amount = document.createElement("dd");
      amount.textContent = cells[at].textContent;
      list.append(name, amount);
    }
    tip.replaceChildren(heading, list);
    tip.hidden = false;
    const box = chart.getBoundingClientRect();
    const at = slot.getBoundingClientRect();
    const middle = at.left + at.width / 2 - box.left;
    const left = middle + 16 + tip.offsetWidth > box.width ? middle - tip.offsetWidth - 16 : middle + 16;
    tip.style.transform = `translate(${Math.max(0, left)}px, ${at.top - box.top + 12}px)`;
  };

  const silence = (chart) => {
    chart.querySelector(".chart-tip").hidden = true;
    chart.querySelector(".slot.on")?.classList.remove("on");
  };

  document.addEventListener("pointerover", (event) => {
    const slot = event.target.closest?.(".chart-plot g")?.querySelector(".slot");
    if (slot) tell(slot.closest(".plot"), slot);
    for (const tip of document.querySelectorAll(".chart-tip:not([hidden])")) {
      if (!slot || !tip.parentElement.contains(slot)) silence(tip.parentElement);
    }
  });

  // --- What is clicked, pressed, chosen and sent ------------------------------------------------

  document.addEventListener("click", (event) => {
    const copyButton = event.target.closest("[data-copy]");
    if (copyButton) copy(copyButton);
    const dismissed = event.target.closest("[data-dismiss]");
    if (dismissed) dismissed.closest(".toast").remove();
    const link = event.target.closest("a[data-dialog]");
    if (link && !event.ctrlKey && !event.metaKey && !event.shiftKey) {
      event.preventDefault();
      openDialog(link);
    }
    // A click elsewhere closes an open menu.
    for (const menu of document.querySelectorAll(".menu[open]")) {
      if (!menu.contains(event.target)) menu.open = false;
    }
  });

  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    for (const menu of document.querySelectorAll(".menu[open]")) {
      menu.open = false;
      menu.querySelector("summary").focus();
    }
  });

  document.addEventListener("change", (event) => {
    const form = event.target.closest("form[data-auto]");
    if (form && event.target.matches("select, [type=checkbox], [type=radio]")) form.requestSubmit();
    if (event.target.dataset.codeLanguage !== undefined) showLanguage(event.target.value);
  });

  // All examples of the page turn to the language that was chosen at one, and later pages too.
  const showLanguage = (name) => {
    remember("code_language", name);
    for (const radio of document.querySelectorAll("[data-code-language]")) {
      if (radio.value === name) radio.checked = true;
    }
  };

  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (form.dataset.theme !== undefined && event.submitter) {
      event.preventDefault();
      choose(form, event.submitter.value);
      return;
    }
    // What this tab keeps (the playground's conversation) is of whoever logs out.
    if (form.dataset.logOut !== undefined) {
      window.sluice.hasLoggedOut = true; // and nothing is kept on the way out
      sessionStorage.clear();
    }
    // What a filter leaves empty need not stand in the address.
    if (form.dataset.auto !== undefined) {
      for (const field of form.elements) if (field.name && !field.value) field.disabled = true;
    }
    // The second click of a double click must not send the form again.
    if (form.dataset.sent) event.preventDefault();
    form.dataset.sent = "yes";
  });

  // A page that comes back from the browser's cache may be sent again.
  addEventListener("pageshow", () => {
    for (const form of document.forms) {
      delete form.dataset.sent;
      if (form.dataset.auto !== undefined) for (const field of form.elements) field.disabled = false;
    }
  });

  for (const each of document.querySelectorAll(".toast.success, .toast.info")) fade(each);

  window.sluice = { toast };
})();
