// What changes while somebody looks: an element with data-follow asks its address again and takes
// its own newer self (by id) from the answer, until that has no data-follow any more.
(() => {
  "use strict";
  const EVERY_MS = 2000;
  const LONGEST_MS = 30000;

  const note = (element, text) => {
    let line = element.querySelector(":scope > .stale");
    if (!line) {
      line = document.createElement("p");
      line.className = "stale";
      line.setAttribute("role", "status");
      element.prepend(line);
    }
    line.textContent = text;
  };

  // Whoever is about to click or reads a menu is not disturbed.
  const isInUse = (element) => element.contains(document.activeElement) || document.querySelector("dialog[open]");

  const ask = async (id, waited) => {
    const element = document.getElementById(id);
    if (!element || element.dataset.follow === undefined) return;
    let wait = Number(element.dataset.followEvery) || EVERY_MS;
    if (!document.hidden && !isInUse(element)) {
      try {
        const response = await fetch(element.dataset.follow, { headers: { "X-Requested-With": "follow" }, signal: AbortSignal.timeout(10000) });
        if (!response.ok || response.redirected) throw new Error(String(response.status));
        const page = new DOMParser().parseFromString(await response.text(), "text/html");
        const newer = page.getElementById(id);
        if (!newer) throw new Error("another page");
        if (!isInUse(element)) element.replaceWith(document.adoptNode(newer));
      } catch {
        wait = Math.min(LONGEST_MS, waited * 2);
        note(element, element.dataset.followStale);
      }
    }
    setTimeout(() => ask(id, wait), wait);
  };

  for (const element of document.querySelectorAll("[data-follow]")) setTimeout(() => ask(element.id, EVERY_MS), EVERY_MS);
})();
