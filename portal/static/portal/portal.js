// What a script makes nicer. Every page works without it.
(() => {
  "use strict";
  const root = document.documentElement;
  root.classList.add("js");

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
      announce(button, "Copied");
    } catch {
      getSelection().selectAllChildren(source);
      announce(button, "Press Ctrl+C");
    }
  };

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

  document.addEventListener("click", (event) => {
    const copyButton = event.target.closest("[data-copy]");
    if (copyButton) copy(copyButton);
    const toast = event.target.closest("[data-dismiss]");
    if (toast) toast.closest(".toast").remove();
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

  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (form.dataset.theme !== undefined && event.submitter) {
      event.preventDefault();
      choose(form, event.submitter.value);
      return;
    }
    // The second click of a double click must not send the form again.
    if (form.dataset.sent) event.preventDefault();
    form.dataset.sent = "yes";
  });

  // A page that comes back from the browser's cache may be sent again.
  addEventListener("pageshow", () => {
    for (const form of document.forms) delete form.dataset.sent;
  });

  // On a phone the tabs scroll, and the current one may lie beyond the edge.
  // Not scrollIntoView: browsers begin the next Tab where it scrolled to, past the skip link.
  const tab = document.querySelector(".tabs [aria-current]");
  const tabs = tab?.closest(".tabs");
  if (tabs) tabs.scrollLeft += tab.getBoundingClientRect().left - tabs.getBoundingClientRect().left - (tabs.clientWidth - tab.offsetWidth) / 2;

  for (const toast of document.querySelectorAll(".toast.success, .toast.info")) {
    setTimeout(() => toast.remove(), 7000);
  }
})();
