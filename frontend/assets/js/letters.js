// The view of the dead letters: the list with its filters, and what is done to many. One of them is in letter.js.

import { ask } from "./api.js";
import { byId, h, icon, setBusy } from "./dom.js";
import * as letterView from "./letter.js";
import { count, dayTime } from "./words.js";

/** How many are asked for at once. */
const PAGE = 50;
/** As many as the broker gives in one answer, and takes in one request. */
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

/** @type {any[]} Those of the list, the newest first, with the beginnings of their bodies. */
let letters = [];
/** Where the list goes on, and of which question it is the answer. */
let next = null;
let query = new URLSearchParams();
let chosen = null;
let selected = new Set();
let deciding = false;
/** How many questions there were: only the answer to the last one counts. */
let asked = 0;

/** Starts the view; nothing is asked before it is shown. */
export function start() {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    find();
  });
  for (const field of [state, queue]) field.addEventListener("change", find);
  byId("letters-refresh").addEventListener("click", find);
  moreButton.addEventListener("click", () => load(next));
  all.addEventListener("change", () => {
    selected = new Set(all.checked ? letters.map(({ id }) => id) : []);
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
  find();
}

/** Asks for what the filter says. */
function find() {
  query = new URLSearchParams({ state: state.value });
  if (queue.value !== "") query.set("queue", queue.value);
  const words = text.value.trim();
  if (words !== "") query.set(UUID.test(words) ? "action" : "reason", words);
  next = null;
  moreButton.hidden = true;
  return load();
}

/** Loads the list anew, or what comes behind `before`; `stay` keeps its length, and the letter that is shown. */
async function load(before = null, stay = false) {
  const question = ++asked;
  list.setAttribute("aria-busy", "true");
  const page = new URLSearchParams(query);
  page.set("limit", stay ? Math.min(Math.max(letters.length, PAGE), MOST) : PAGE);
  if (before) page.set("before", before);
  const answer = await ask(`/dead-letters?${page}`);
  const why = answer.ok ? "" : await whyNot(answer);
  if (question !== asked) return;
  list.removeAttribute("aria-busy");
  if (answer.ok) {
    letters = [...(before ? letters : []), ...answer.data.letters];
    next = answer.data.next;
  } else if (!before) {
    letters = [];
    next = null;
  }
  const nothing = `No letter is ${query.get("state")}${query.size > 1 ? " and fits" : ""}.`;
  note.textContent = answer.ok && letters.length === 0 ? nothing : why;
  selected = new Set(letters.map(({ id }) => id).filter((id) => selected.has(id)));
  const gone = !letters.some(({ id }) => id === chosen);
  if (answer.ok && gone && !before && !stay) choose(letters[0]?.id ?? null);
  else render();
}

/** Why there is no list. A broker that is public is behind something that lets nobody but operators see it. */
async function whyNot({ status, late, message }) {
  const hidden = status === 404 || (status === 0 && !late && (await ask("/ping")).ok);
  return hidden ? "The broker does not show its dead letters here: they are for operators." : message;
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
  const none = selected.size === 0 || query.get("state") !== "dead";
  if (none && bar.contains(document.activeElement)) byId("letters-refresh").focus();
  bar.hidden = none;
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
  if (deciding) return;
  if ([...selected].some(letterView.isEdited)) {
    note.textContent = "One of these was edited: replay it by itself, or put it back as it was.";
    return;
  }
  deciding = true;
  setBusy([replayButton, discardButton], true);
  const ids = [...selected];
  const said = [];
  let done = true;
  for (let at = 0; at < ids.length; at += MOST) {
    const { ok, message, data } = await ask(`/dead-letters/${what}`, { ids: ids.slice(at, at + MOST), ...body });
    done &&= ok;
    said.push(message, ...(data?.failed ?? []).map(({ id, message }) => `${id}: ${message}`));
  }
  setBusy([replayButton, discardButton], false);
  deciding = false;
  if (done) reason.value = "";
  await load();
  note.textContent = said.join("\n");
}
