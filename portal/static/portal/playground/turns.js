// A conversation as a tree of turns: what was said, and the answers of both lanes. To edit or to
// try again makes another branch beside a turn; each fork remembers which one is open. Pure.
(() => {
  "use strict";

  const fork = () => ({ branches: [], chosen: 0 });

  class Turns {
    constructor(kept = null) {
      this.all = kept?.all ?? {};
      this.root = kept?.root ?? fork();
    }

    // The open turns from the first one down, each with the fork that it belongs to.
    path() {
      const found = [];
      for (let at = this.root; at.branches.length; ) {
        const turn = this.all[at.branches[at.chosen]];
        found.push({ turn, fork: at });
        at = turn.next;
      }
      return found;
    }

    end() {
      return this.path().at(-1)?.turn.next ?? this.root;
    }

    // said: {text} of a person, or {results: [of lane 0, of lane 1]} of tools.
    add(at, said) {
      const turn = { id: crypto.randomUUID?.() ?? `${Date.now()}${Math.random()}`, text: null, results: null, ...said, answers: [null, null], next: fork() };
      this.all[turn.id] = turn;
      at.branches.push(turn.id);
      at.chosen = at.branches.length - 1;
      return turn;
    }

    choose(at, step) {
      at.chosen = Math.min(at.branches.length - 1, Math.max(0, at.chosen + step));
    }

    kept() {
      return { all: this.all, root: this.root };
    }
  }

  const answered = (answer) => {
    const message = { role: "assistant", content: answer.text || null };
    if (answer.calls.length) {
      message.tool_calls = answer.calls.map((call) => ({
        id: call.id, type: "function", function: { name: call.name, arguments: call.arguments },
      }));
    }
    return message;
  };

  // What one lane's model is sent: turns, of which the last one has no answer yet. Where a lane was
  // not asked, because it was compared only later, it is told what the first one answered; results
  // of tools go to whose call they answer.
  const messagesOf = (turns, lane, system) => {
    const messages = system ? [{ role: "system", content: system }] : [];
    let source = lane;
    for (const turn of turns) {
      if (turn.results && !turn.results[source]) continue;
      if (turn.text !== null) messages.push({ role: "user", content: turn.text });
      for (const result of turn.results?.[source] ?? []) {
        messages.push({ role: "tool", tool_call_id: result.id, content: result.content });
      }
      source = turn.answers[lane] ? lane : 0;
      const answer = turn.answers[source];
      if (answer && (answer.text || answer.calls.length)) messages.push(answered(answer));
    }
    return messages;
  };

  window.sluice.playground.Turns = Turns;
  window.sluice.playground.messagesOf = messagesOf;
})();
