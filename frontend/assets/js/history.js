// What was sent since the page was opened. It is kept in memory only: a payload may hold a password.

import { byId, h, icon } from "./dom.js";
import { clockTime, duration, toneOf } from "./words.js";

/** How many exchanges are kept. */
const KEPT = 50;

const list = byId("history");
const empty = byId("history-empty");
const clearButton = byId("history-clear");

/** @type {import("./api.js").Exchange[]} Newest first. */
let exchanges = [];
let shown = null;
let show = () => {};

/** Starts the list; `onChoose` is called with the exchange that a person wants to see again. */
export function start(onChoose) {
  show = onChoose;
  clearButton.addEventListener("click", () => {
    exchanges = exchanges.filter((exchange) => exchange === shown);
    render();
  });
  render();
}

/** Adds an exchange, which is the one that is shown now. */
export function add(exchange) {
  exchanges = [exchange, ...exchanges].slice(0, KEPT);
  mark(exchange);
}

/** Says which exchange is shown. */
export function mark(exchange) {
  shown = exchange;
  render();
}

/** Draws the list anew, as after an answer. The keyboard stays on its entry. */
export function render() {
  const focused = [...list.querySelectorAll("button")].indexOf(document.activeElement);
  list.replaceChildren(...exchanges.map(entry));
  if (focused >= 0) list.querySelectorAll("button")[focused]?.focus();
  empty.hidden = exchanges.length > 0;
  clearButton.hidden = exchanges.length < 2;
}

function entry(exchange) {
  const { action, answer, state, milliseconds, at } = exchange;
  return h(
    "li",
    {},
    h(
      "button",
      { type: "button", class: "entry", "aria-current": exchange === shown && "true", onclick: () => show(exchange) },
      h("span", { class: `mark hue-${action.id}` }, icon(action.id)),
      h("span", { class: "what" },
        h("span", { class: "title" }, action.label, exchange.async && h("span", { class: "quiet" }, " async")),
        h("span", { class: "quiet text" }, answer?.reply?.message ?? (state === "pending" ? "…" : state))),
      h("span", { class: "when" },
        h("span", { class: `dot-status tone-${toneOf(exchange)}` }, answer ? String(answer.status) : state === "pending" ? "…" : "none"),
        h("span", { class: "quiet" }, milliseconds === undefined ? clockTime(at) : duration(milliseconds))),
    ),
  );
}
