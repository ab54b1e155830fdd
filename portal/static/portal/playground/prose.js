// What a model writes, as people read it: Markdown by marked, and of its HTML only what DOMPurify
// lets through. A model's words are a stranger's words: no image is fetched, nothing gets a name,
// a style or a handler, and a link says where it leads and takes no one's window.
(() => {
  "use strict";
  const { config } = window.sluice.playground;
  const TAGS = [
    "a", "blockquote", "br", "code", "del", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "li",
    "ol", "p", "pre", "strong", "table", "tbody", "td", "th", "thead", "tr", "ul",
  ];
  const purify = window.DOMPurify(window);
  const marked = new window.marked.Marked({ gfm: true, breaks: true });
  // HTML in an answer is shown as it was written, an image as the link that it is.
  marked.use({
    renderer: {
      html: ({ text }) => escaped(text),
      image: ({ href, text }) => `<a href="${escaped(href)}">${escaped(text || href)}</a>`,
    },
  });

  function escaped(text) {
    const entities = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" };
    return text.replace(/[&<>"']/g, (character) => entities[character]);
  }

  purify.addHook("afterSanitizeAttributes", (node) => {
    if (node.tagName !== "A") return;
    node.setAttribute("rel", "noopener noreferrer nofollow");
    node.setAttribute("target", "_blank");
    if (node.href) node.title = node.href;
  });

  // A block of code has a button that copies it.
  const dress = (element) => {
    for (const block of element.querySelectorAll("pre")) {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "copy";
      button.textContent = config.words.copy;
      button.dataset.copyCode = "";
      block.tabIndex = 0;
      const frame = document.createElement("div");
      frame.className = "prose-code";
      block.replaceWith(frame);
      frame.append(block, button);
    }
    for (const table of element.querySelectorAll("table")) {
      const frame = document.createElement("div");
      frame.className = "table-scroll";
      table.replaceWith(frame);
      frame.append(table);
    }
  };

  // Replaces what the element holds.
  window.sluice.playground.writeProse = (element, text) => {
    const clean = purify.sanitize(marked.parse(text), {
      ALLOWED_TAGS: TAGS,
      ALLOWED_ATTR: ["href", "start", "align"],
      ALLOWED_URI_REGEXP: /^(?:https?|mailto):/i,
      RETURN_DOM_FRAGMENT: true,
    });
    dress(clean);
    element.replaceChildren(clean);
  };
})();
