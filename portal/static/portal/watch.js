// What happens now: the panel of live requests, told by its socket (portal/live_socket.py).
// Without it, and while the server is away, the page stays as it was rendered.
(() => {
  "use strict";
  const FIRST_WAIT_MS = 1000;
  const LONGEST_WAIT_MS = 30000;
  const MOST_ROWS = 10;
  const REFUSED = 4403;

  const number = new Intl.NumberFormat(document.documentElement.lang || "en");

  const fetchPage = async (url) => {
    const response = await fetch(url, { headers: { "X-Requested-With": "part" } });
    if (!response.ok || response.redirected) throw new Error(String(response.status));
    return new DOMParser().parseFromString(await response.text(), "text/html");
  };

  class Panel {
    constructor(section) {
      this.section = section;
      this.wait = FIRST_WAIT_MS;
      this.sequence = section.dataset.sequence === "" ? null : Number(section.dataset.sequence);
      this.refetching = false; // and what is told meanwhile asks for it again
      this.again = false;
      this.say("connecting");
      this.connect();
    }

    part(name) { return this.section.querySelector(`[data-live-${name}]`); }

    say(word) {
      const state = this.part("state");
      const text = state.dataset[`${word}Word`];
      state.dataset.is = word;
      if (state.textContent !== text) state.textContent = text; // else it is read out again
    }

    connect() {
      const url = new URL(this.section.dataset.live, location.href);
      url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
      const socket = new WebSocket(url);
      socket.addEventListener("message", (event) => this.hear(JSON.parse(event.data)));
      socket.addEventListener("close", (event) => this.reconnect(event.code));
    }

    // Twice as long each time, and nobody at the same moment as all others.
    reconnect(code) {
      if (code === REFUSED) { this.say("refused"); return; }
      this.say("away");
      const wait = this.wait * (0.5 + Math.random());
      this.wait = Math.min(LONGEST_WAIT_MS, this.wait * 2);
      setTimeout(() => this.connect(), wait);
    }

    hear(told) {
      this.wait = FIRST_WAIT_MS;
      this.say("live");
      this.run(told.running);
      if (this.refetching) { this.again = true; return; }
      const expected = told.type === "hello" ? told.sequence : told.before;
      if (this.sequence !== expected) { this.refetch(); return; }
      this.sequence = told.sequence;
      if (told.html) this.add(told.html);
    }

    run(running) {
      const shown = this.part("running");
      shown.parentElement.hidden = running === null;
      if (running !== null) shown.textContent = number.format(running);
    }

    add(html) {
      const template = document.createElement("template");
      template.innerHTML = html; // the server's own template, which escapes what people wrote
      const body = this.part("rows");
      const known = new Set([...body.rows].map((row) => row.dataset.request));
      const rows = [...template.content.querySelectorAll("tr")].filter((row) => !known.has(row.dataset.request));
      for (const row of rows) row.classList.add("arrived");
      body.prepend(...rows);
      while (body.rows.length > MOST_ROWS) body.rows[body.rows.length - 1].remove();
      this.part("empty").hidden = body.rows.length > 0;
      this.part("table").hidden = body.rows.length === 0;
    }

    // Something was missed: the panel as it is now. What is told meanwhile may or may not be in it.
    async refetch() {
      this.refetching = true;
      do {
        this.again = false;
        try {
          const page = await fetchPage(this.section.dataset.live);
          const fresh = page.getElementById(this.section.id);
          this.part("rows").replaceChildren(...fresh.querySelector("[data-live-rows]").rows);
          this.add("");
          this.sequence = fresh.dataset.sequence === "" ? null : Number(fresh.dataset.sequence);
        } catch {
          this.sequence = null; // the next message tries again
        }
      } while (this.again);
      this.refetching = false;
    }
  }

  for (const section of document.querySelectorAll("[data-live]")) new Panel(section);
})();
