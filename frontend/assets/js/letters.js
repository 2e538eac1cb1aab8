// The view of the dead letters: the list with its filters, and what is done to many. One of them is in letter.js.

import { ask } from "./api.js";
import { byId, h, icon } from "./dom.js";
import * as letterView from "./letter.js";
import { count, dayTime } from "./words.js";

/** How many are asked for at once. */
const PAGE = 50;
/** As many as the broker takes in one request. */
const MOST = 200;
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

const form = byId("letters-filter");
const state = byId("letters-state");
const queue = byId("letters-queue");
const text = byId("letters-text");
const list = byId("letters");
const note = byId("letters-note");
const moreButton = byId("letters-more");
const all = byId("letters-all");
const bar = byId("letters-decide");
const reason = byId("letters-reason");
const replayButton = byId("letters-replay");
const discardButton = byId("letters-discard");

/** @type {any[]} Those of the list, the newest first. */
let letters = [];
let next = null;
let chosen = null;
const selected = new Set();
/** Which question was the last: an answer to an earlier one comes too late. */
let asked = 0;

/** Starts the view; nothing is asked before it is shown. */
export function start() {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    load();
  });
  for (const field of [state, queue]) field.addEventListener("change", () => load());
  byId("letters-refresh").addEventListener("click", () => load());
  moreButton.addEventListener("click", () => load(next));
  all.addEventListener("change", () => {
    for (const { id } of letters) all.checked ? selected.add(id) : selected.delete(id);
    render();
  });
  replayButton.prepend(icon("replay"));
  discardButton.prepend(icon("discard"));
  replayButton.addEventListener("click", () => decide("replay", {}));
  bar.addEventListener("submit", (event) => {
    event.preventDefault();
    const why = reason.value.trim();
    if (why !== "") return decide("discard", { reason: why });
    note.textContent = letterView.WHY;
    reason.focus();
  });
  letterView.start(() => load(null, true));
}

/** Shows the letters; those of one action where the address names it. */
export function show(action) {
  if (UUID.test(action)) {
    text.value = action;
    state.value = "dead";
    queue.value = "";
  }
  load();
}

function query(before) {
  const query = new URLSearchParams({ state: state.value, limit: PAGE });
  if (queue.value !== "") query.set("queue", queue.value);
  const words = text.value.trim();
  if (words !== "") query.set(UUID.test(words) ? "action" : "reason", words);
  if (before) query.set("before", before);
  return query;
}

/** Loads the list anew, or what comes behind `before`; `stay` leaves the letter that is shown where it is. */
async function load(before = null, stay = false) {
  const question = ++asked;
  list.setAttribute("aria-busy", "true");
  const { ok, status, message, data } = await ask(`/dead-letters?${query(before)}`);
  if (question !== asked) return;
  list.removeAttribute("aria-busy");
  if (!ok) {
    // A broker that is public is behind something that lets nobody but operators see these.
    const hidden = status === 404 || (status === 0 && (await ask("/ping")).ok);
    note.textContent = hidden ? "The broker does not show its dead letters here: they are for operators." : message;
    if (!before) forget();
    return render();
  }
  if (!before) forget();
  letters.push(...data.letters);
  next = data.next;
  note.textContent = letters.length > 0 ? "" : `No letter is ${state.value}${query().size > 2 ? " and fits" : ""}.`;
  render();
  const still = letters.find(({ id }) => id === chosen);
  if (still === undefined && !stay) choose(letters[0]?.id ?? null);
}

function forget() {
  letters = [];
  next = null;
  selected.clear();
}

function choose(id) {
  chosen = id;
  letterView.show(id);
  render();
}

/** Draws the list anew. The keyboard stays where it is. */
function render() {
  const focused = document.activeElement?.id;
  list.replaceChildren(...letters.map(entry));
  if (focused) byId(focused)?.focus();
  moreButton.hidden = next === null;
  all.checked = letters.length > 0 && letters.every(({ id }) => selected.has(id));
  all.disabled = letters.length === 0;
  bar.hidden = selected.size === 0 || state.value !== "dead";
  byId("letters-selected").textContent = `${count(selected.size, "letter", "letters")}:`;
}

function entry(letter) {
  const { id, queue, reason, attempts, died_at } = letter;
  const box = h("input", { type: "checkbox", id: `select-${id}`, "aria-label": `Select the letter ${id}` });
  box.checked = selected.has(id);
  box.addEventListener("change", () => {
    box.checked ? selected.add(id) : selected.delete(id);
    render();
  });
  return h("li", { class: "letter-row" }, box,
    h("button",
      { type: "button", class: "entry", id: `letter-${id}`, "aria-current": id === chosen && "true", onclick: () => choose(id) },
      h("span", { class: "what" },
        h("span", { class: "title" }, reason),
        h("span", { class: "quiet text" }, `${queue}, ${count(attempts, "attempt", "attempts")}`)),
      h("span", { class: "when quiet" }, h("time", { datetime: died_at }, dayTime(new Date(died_at)))),
    ));
}

/** Does it to those that are selected, as many at a time as the broker takes. */
async function decide(what, body) {
  const ids = [...selected];
  for (const button of [replayButton, discardButton]) button.disabled = true;
  const said = [];
  for (let at = 0; at < ids.length; at += MOST) {
    const { message, data } = await ask(`/dead-letters/${what}`, { ids: ids.slice(at, at + MOST), ...body });
    said.push(message, ...(data?.failed ?? []).map(({ id, message }) => `${id}: ${message}`));
  }
  for (const button of [replayButton, discardButton]) button.disabled = false;
  reason.value = "";
  await load();
  note.textContent = said.join("\n");
}
