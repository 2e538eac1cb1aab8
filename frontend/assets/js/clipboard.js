// Buttons that copy a text.

import { h, icon } from "./dom.js";

/** How long a button says that it has copied, in milliseconds. */
const SAY_SO = 1600;

/**
 * Copies a text. Where the page was not opened over https or from localhost, browsers hide the clipboard; the
 * old way still works there.
 */
async function copy(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const area = h("textarea", { class: "visually-hidden", readonly: true });
  area.value = text;
  const focused = document.activeElement;
  document.body.append(area);
  area.select();
  const copied = document.execCommand("copy");
  area.remove();
  focused?.focus();
  if (!copied) throw new Error("the browser did not copy");
}

/**
 * A button that copies `text`.
 * @param {string} text
 * @param {string} what What is copied, for its name: "the trace id".
 * @param {string} [label] Words on the button; without them it is a symbol.
 */
export function copyButton(text, what, label) {
  const said = h("span", { class: label ? "" : "visually-hidden", "aria-live": "polite" }, label ?? "");
  const button = h(
    "button",
    { type: "button", class: label ? "button small" : "button bare", "aria-label": `Copy ${what}`, title: `Copy ${what}` },
    icon("copy"),
    said,
  );
  button.addEventListener("click", async () => {
    let copied = true;
    await copy(text).catch(() => (copied = false));
    said.textContent = copied ? "Copied" : "Not copied: select it by hand";
    button.classList.toggle("done", copied);
    setTimeout(() => {
      said.textContent = label ?? "";
      button.classList.remove("done");
    }, SAY_SO);
  });
  return button;
}
