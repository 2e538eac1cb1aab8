// The left side of the console: choose an action, edit its payload, send it.

import { actions } from "./actions.js";
import { byId, h, icon } from "./dom.js";
import { layOutText, problemOf } from "./json.js";
import { brokerUrl } from "./settings.js";

const tabs = byId("actions");
const panel = byId("composer-panel");
const form = byId("composer");
const about = byId("about");
const way = byId("way");
const editor = byId("payload");
const note = byId("payload-note");
const option = byId("async-option");
const asynchronous = byId("async");
const sendButton = byId("send");
const sendLabel = byId("send-label");
const cancelButton = byId("cancel");
const target = byId("target");

/** What stands in the editor of each action, and whether its option is on. */
const drafts = new Map(actions.map((action) => [action.id, { text: action.example, async: false }]));
let current = actions[1];
let busy = false;

/**
 * Starts the composer.
 * @param {(action: object, body: string, async: boolean) => void} send What to do with a request.
 * @param {() => void} cancel What to do to give one up.
 */
export function start(send, cancel) {
  tabs.append(...actions.map(tab));
  tabs.addEventListener("keydown", moveAlong);
  editor.addEventListener("input", () => {
    drafts.get(current.id).text = editor.value;
    checkPayload();
  });
  editor.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
    event.preventDefault();
    form.requestSubmit();
  });
  asynchronous.addEventListener("change", () => {
    drafts.get(current.id).async = asynchronous.checked;
    showWay();
  });
  byId("format").addEventListener("click", () => load(current, layOutText(editor.value), asynchronous.checked));
  byId("reset").addEventListener("click", () => load(current, current.example, false));
  cancelButton.addEventListener("click", cancel);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (!busy) send(current, editor.value, asynchronous.checked);
  });
  choose(current);
}

/** Puts a request into the editor: one from the history, to be sent again. */
export function load(action, body, async) {
  drafts.set(action.id, { text: body, async });
  choose(action);
}

/** Moves the keyboard to the editor. */
export function focusEditor() {
  editor.focus();
}

/** Shows that a request is under way. The button stays where it is, so that the keyboard does too. */
export function setBusy(isBusy) {
  busy = isBusy;
  sendButton.setAttribute("aria-disabled", String(isBusy));
  sendButton.classList.toggle("busy", isBusy);
  cancelButton.hidden = !isBusy;
  sendLabel.textContent = isBusy ? "Waiting…" : "Send";
}

function tab(action) {
  return h(
    "button",
    {
      type: "button",
      role: "tab",
      id: `action-${action.id}`,
      class: `tab hue-${action.id}`,
      "aria-controls": panel.id,
      onclick: () => choose(action),
    },
    icon(action.id),
    h("span", {}, action.label),
  );
}

function choose(action) {
  current = action;
  for (const button of tabs.children) {
    const selected = button.id === `action-${action.id}`;
    button.setAttribute("aria-selected", String(selected));
    button.tabIndex = selected ? 0 : -1;
  }
  panel.setAttribute("aria-labelledby", `action-${action.id}`);
  form.dataset.action = action.id;
  const draft = drafts.get(action.id);
  about.textContent = action.about;
  target.textContent = `POST ${brokerUrl}${action.path}`;
  editor.value = draft.text;
  editor.placeholder = action.example === "" ? "No body is sent." : "An empty body is sent.";
  option.hidden = !action.asyncWay;
  asynchronous.checked = Boolean(action.asyncWay) && draft.async;
  showWay();
  checkPayload();
}

/** The arrow keys, Home and End go from tab to tab (WAI-ARIA, the tabs pattern). */
function moveAlong(event) {
  const last = actions.length - 1;
  const at = actions.indexOf(current);
  const to = { ArrowRight: at === last ? 0 : at + 1, ArrowLeft: at === 0 ? last : at - 1, Home: 0, End: last }[event.key];
  if (to === undefined) return;
  event.preventDefault();
  choose(actions[to]);
  tabs.children[to].focus();
}

function showWay() {
  const stops = asynchronous.checked ? current.asyncWay : current.way;
  way.replaceChildren(...stops.map((stop) => h("li", {}, stop)));
}

/** Says what is wrong with the payload; it is sent as it stands all the same. */
function checkPayload() {
  const problem = current.example === "" && editor.value === "" ? null : problemOf(editor.value);
  note.textContent = problem === null ? "" : `Not JSON: ${problem}. It is sent as it stands.`;
  editor.setAttribute("aria-invalid", String(problem !== null));
}
