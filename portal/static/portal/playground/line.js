// The line to the models: one WebSocket (/v1/stream), opened by a ticket of the session when
// something is asked, and again when it was closed meanwhile. Requests share it.
(() => {
  "use strict";
  const config = JSON.parse(document.getElementById("playground-config").textContent);
  const PATIENCE_MS = 8_000; // for a ticket, and for the handshake
  const SILENCE_MS = 120_000; // of a request without a frame
  const LOOK_MS = 1_000;
  // A member's permission holds for an hour; a line is renewed before a request meets its end.
  const LONGEST_MS = 50 * 60_000;
  const RESTARTS = 1012;
  const UNAUTHORIZED = 4401;

  class Problem extends Error {
    constructor(code, message = "") {
      super(message || config.problems[code] || code);
      this.code = code;
    }
  }

  const ticket = async () => {
    const token = document.querySelector("[name=csrfmiddlewaretoken]").value;
    let answer;
    try {
      answer = await fetch(config.tickets, {
        method: "POST",
        redirect: "manual",
        headers: { "Content-Type": "application/json", "X-CSRFToken": token },
        body: JSON.stringify({ project: config.project }),
        signal: AbortSignal.timeout(PATIENCE_MS),
      });
    } catch {
      throw new Problem("unreachable");
    }
    if (answer.ok) return answer.json();
    // The log-in answers in place of the page, or refuses the token of a session that ended.
    if (answer.type === "opaqueredirect") throw new Problem("session_ended");
    const told = await answer.json().catch(() => null);
    if (told?.error) throw new Problem(told.error.code, told.error.message);
    throw new Problem(answer.status === 403 ? "session_ended" : "unavailable");
  };

  class Line {
    #socket = null;
    #opening = null;
    #openedAt = 0;
    #running = new Map();
    #number = 0;
    #refusal = null; // what the server said of the socket itself

    constructor() {
      setInterval(() => this.#endSilent(), LOOK_MS);
    }

    // listener: {chunk(data), response(data), ended({problem, headers, requestId})}; ended is
    // called once, whatever happens. Returns what cancels the request.
    run(body, listener) {
      const id = `r${(this.#number += 1)}`;
      const running = { listener, problem: null, heardAt: Date.now(), isCancelled: false, socket: null };
      this.#running.set(id, running);
      this.#send(id, running, body);
      return () => this.#cancel(id, running);
    }

    async #send(id, running, body) {
      try {
        const socket = await this.#open();
        if (running.isCancelled) return;
        running.heardAt = Date.now();
        running.socket = socket;
        socket.send(JSON.stringify({ type: "request", id, endpoint: config.endpoint, body }));
      } catch (problem) {
        this.#end(id, { problem: problem instanceof Problem ? problem : new Problem("unreachable") });
      }
    }

    #cancel(id, running) {
      if (!this.#running.has(id)) return;
      running.isCancelled = true;
      this.#stop(id, running);
      this.#end(id, {});
    }

    #stop(id, { socket }) {
      if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify({ type: "cancel", id }));
    }

    #open() {
      const isOld = Date.now() - this.#openedAt > LONGEST_MS;
      if (this.#socket?.readyState === WebSocket.OPEN && !isOld) return Promise.resolve(this.#socket);
      this.#opening ??= this.#connect().finally(() => { this.#opening = null; });
      return this.#opening;
    }

    async #connect() {
      this.#retire();
      const { subprotocols } = await ticket();
      const socket = new WebSocket(new URL("/v1/stream", location.href.replace(/^http/, "ws")), subprotocols);
      this.#refusal = null;
      await new Promise((opened, failed) => {
        const timer = setTimeout(() => { socket.close(); failed(new Problem("unreachable")); }, PATIENCE_MS);
        socket.onopen = () => { clearTimeout(timer); opened(); };
        socket.onclose = () => { clearTimeout(timer); failed(new Problem("unreachable")); };
      });
      this.#socket = socket;
      this.#openedAt = Date.now();
      socket.onmessage = (event) => this.#hear(JSON.parse(event.data));
      socket.onclose = (event) => this.#lose(socket, event.code);
      return socket;
    }

    // Nothing new goes over this socket; what runs on it may end.
    #retire() {
      const socket = this.#socket;
      this.#socket = null;
      const isInUse = [...this.#running.values()].some((running) => running.socket === socket);
      if (!isInUse) socket?.close();
    }

    #hear(frame) {
      if (frame.type === "goodbye") {
        this.#retire(); // the server restarts; it closes when what runs has ended
        return;
      }
      const running = this.#running.get(frame.id);
      if (!running) {
        if (frame.type === "error") this.#refusal = new Problem(frame.error.code, frame.error.message);
        return;
      }
      running.heardAt = Date.now();
      if (frame.type === "chunk") running.listener.chunk(frame.data);
      else if (frame.type === "response") running.listener.response(frame.data);
      else if (frame.type === "error") {
        const { code, message, param } = frame.error;
        running.problem = Object.assign(new Problem(code, message), { param });
      } else if (frame.type === "done") {
        this.#end(frame.id, { problem: running.problem, headers: frame.headers ?? {}, requestId: frame.request_id });
      }
    }

    #lose(socket, code) {
      if (this.#socket === socket) this.#socket = null;
      const codes = { [RESTARTS]: "server_stopped", [UNAUTHORIZED]: "invalid_api_key" };
      const lost = this.#refusal ?? new Problem(codes[code] ?? "connection_lost");
      for (const [id, running] of [...this.#running]) {
        if (running.socket === socket) this.#end(id, { problem: running.problem ?? lost });
      }
    }

    #endSilent() {
      const horizon = Date.now() - SILENCE_MS;
      for (const [id, running] of [...this.#running]) {
        if (running.heardAt > horizon) continue;
        this.#stop(id, running);
        this.#end(id, { problem: new Problem("no_answer") });
      }
    }

    #end(id, outcome) {
      const running = this.#running.get(id);
      if (!running) return;
      this.#running.delete(id);
      running.listener.ended({ problem: null, headers: {}, requestId: "", ...outcome });
    }
  }

  // --- What the account has left ---------------------------------------------------------------

  const fill = (text, values) => text.replace(/\{(\w+)\}/g, (_, name) => values[name] ?? "");

  const showLimits = (headers) => {
    const box = document.querySelector("[data-limits]");
    const kinds = [["requests", config.words.requests], ["tokens", config.words.tokensLimit]];
    const rows = kinds.filter(([kind]) => headers[`x-ratelimit-limit-${kind}`]).map(([kind, label]) => {
      const all = Number(headers[`x-ratelimit-limit-${kind}`]);
      const left = Number(headers[`x-ratelimit-remaining-${kind}`]);
      const text = fill(config.words.left, { left: left.toLocaleString(document.documentElement.lang), all: all.toLocaleString(document.documentElement.lang) });
      const row = document.createElement("div");
      const head = document.createElement("div");
      head.className = "meter-head";
      const name = document.createElement("span");
      name.textContent = label;
      const used = document.createElement("span");
      used.className = "used";
      used.textContent = text;
      head.append(name, used);
      const bar = document.createElement("progress");
      bar.max = all;
      bar.value = all - left;
      bar.setAttribute("aria-label", `${label}: ${text}`);
      bar.className = left <= 0 ? "bad" : left < all / 5 ? "warn" : "";
      row.append(head, bar);
      return row;
    });
    if (rows.length) box.replaceChildren(...rows);
  };

  // --- What went wrong, calmly -------------------------------------------------------------------

  // By its code in the reader's words; what the server says of this very request stands below it.
  const problemBox = (problem) => {
    const box = document.createElement("div");
    box.className = "banner warn problem";
    box.setAttribute("role", "alert");
    const body = document.createElement("div");
    const known = config.problems[problem.code];
    const said = document.createElement("p");
    said.textContent = known || problem.message;
    body.append(said);
    if (known && problem.message && problem.message !== known) {
      const detail = document.createElement("p");
      detail.className = "faint";
      detail.textContent = problem.message;
      body.append(detail);
    }
    if (problem.code === "session_ended") {
      const link = document.createElement("a");
      link.href = config.login;
      link.textContent = config.words.logIn;
      body.append(link);
    }
    box.append(body);
    return box;
  };

  // --- What this tab keeps -----------------------------------------------------------------------

  const shelf = `sluice.playground.${config.mode}`;
  let isFull = false;

  // Null where nothing is kept, or somebody else's.
  const recall = () => {
    try {
      const kept = JSON.parse(sessionStorage.getItem(shelf));
      return kept?.owner === config.owner ? kept : null;
    } catch {
      return null;
    }
  };

  const keep = (state) => {
    if (window.sluice.hasLoggedOut) return;
    try {
      sessionStorage.setItem(shelf, JSON.stringify({ ...state, owner: config.owner }));
      isFull = false;
    } catch {
      if (!isFull) window.sluice.toast(config.words.notKept, "warning");
      isFull = true;
    }
  };

  window.sluice.playground = { config, fill, keep, line: new Line(), problemBox, recall, showLimits };
})();
