// Waits for the first call of a key: data-awaited holds the address that answers with the newer
// part. It rests while nobody looks at the page, asks ever more seldom, and ends with the call.
(() => {
  "use strict";
  const FIRST_MS = 1_500;
  const SLOWEST_MS = 15_000;
  const SLOWER = 1.08;
  const PATIENCE_MS = 8_000;
  const LONGEST_MS = 60 * 60_000;
  const box = document.querySelector("[data-awaited]");
  const lost = document.querySelector("[data-awaited-lost]");
  const begunAt = Date.now();
  let pause = FIRST_MS;
  let failures = 0;

  const ask = async () => {
    const answer = await fetch(box.dataset.awaited, {
      headers: { "X-Requested-With": "part" }, redirect: "manual", signal: AbortSignal.timeout(PATIENCE_MS),
    });
    if (!answer.ok) throw new Error(String(answer.status));
    return new DOMParser().parseFromString(await answer.text(), "text/html").querySelector("[data-awaited-part]");
  };

  const hasCome = (part) => part.dataset.awaitedDone !== undefined;

  const look = async () => {
    if (!document.hidden) {
      try {
        const part = await ask();
        failures = 0;
        if (hasCome(part)) {
          box.replaceChildren(document.adoptNode(part));
          window.sluice.toast(part.querySelector(".banner strong").textContent, "success");
          return;
        }
      } catch {
        failures += 1;
      }
      lost.hidden = failures < 3;
      pause = Math.min(SLOWEST_MS, pause * (failures ? 2 : SLOWER));
    }
    if (Date.now() - begunAt < LONGEST_MS) setTimeout(look, pause);
  };

  if (!hasCome(box.querySelector("[data-awaited-part]"))) setTimeout(look, pause);
})();
