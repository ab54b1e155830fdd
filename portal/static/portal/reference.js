// The API reference in the colours of the system's theme: Redoc takes them once, when it draws.
"use strict";

const probe = document.createElement("span");
document.body.append(probe);
// A token may be light-dark(…), which only a property of an element resolves.
function colour(name) {
  probe.style.color = `var(--${name})`;
  return getComputedStyle(probe).color;
}

const place = document.getElementById("reference");
const text = colour("text");
const families = "Inter, system-ui, sans-serif";
Redoc.init(
  place.dataset.document,
  {
    scrollYOffset: ".docs-bar",
    hideHostname: true,
    hideDownloadButton: false,
    pathInMiddlePanel: true,
    expandResponses: "200",
    theme: {
      colors: {
        primary: { main: colour("accent") },
        text: { primary: text, secondary: colour("text-soft") },
        border: { dark: colour("line-strong"), light: colour("line") },
        gray: { 50: colour("surface-sunken"), 100: colour("line") },
        success: { main: colour("good") },
        error: { main: colour("danger") },
        warning: { main: colour("warn") },
        responses: {
          success: { color: colour("good"), backgroundColor: colour("good-soft") },
          error: { color: colour("danger"), backgroundColor: colour("danger-soft") },
        },
        http: {
          get: colour("accent"), post: colour("info"), delete: colour("danger"), basic: colour("text-soft"),
        },
      },
      schema: {
        nestedBackground: colour("surface-sunken"),
        linesColor: colour("line-strong"),
        typeNameColor: colour("text-soft"),
        typeTitleColor: colour("text-soft"),
        requireLabelColor: colour("danger"),
      },
      sidebar: { backgroundColor: colour("surface-sunken"), textColor: text, activeTextColor: colour("accent") },
      rightPanel: { backgroundColor: colour("code-surface"), textColor: colour("code-text") },
      codeBlock: { backgroundColor: colour("code-surface") },
      typography: {
        fontFamily: families,
        fontSize: "15px",
        headings: { fontFamily: families, fontWeight: "600" },
        code: { color: colour("accent-strong"), backgroundColor: colour("surface-sunken"), fontSize: "13px" },
        links: { color: colour("accent"), hover: colour("accent-strong"), visited: colour("accent") },
      },
    },
  },
  place,
);
probe.remove();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => location.reload());
