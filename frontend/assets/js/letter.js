// One dead letter: why it died, what is in it, and what is to become of it.

import { ask } from "./api.js";
import { copyButton } from "./clipboard.js";
import { byId, h, icon, setBusy } from "./dom.js";
import { layOutText, problemOf } from "./json.js";
import * as trail from "./trail.js";
import { dayTime } from "./words.js";

/** What to say to somebody who gives no reason. */
export const WHY = "Say why it is not needed: whoever looks later wants to know.";

const place = byId("letter");
const spoken = byId("letter-spoken");

let decided = () => {};
/** The letter that is shown, or is about to be. */
let shown = { id: null };
/** The bodies that somebody has edited, by the ids of their letters. They stay until something has become of these. */
const drafts = new Map();

/** Starts the view of one letter; `onDecided` is called when something has become of one. */
export function start(onDecided) {
  decided = onDecided;
}

/** Whether somebody has edited the body of the letter with this id. */
export const isEdited = (id) => drafts.has(id);

/** Shows the letter with this id, or none. */
export async function show(id) {
  if (id !== null && id === shown.id) return;
  const asked = (shown = { id });
  if (id === null) return say("Choose a letter to see why it died and what is in it.");
  place.replaceChildren(h("div", { class: "pulse" }));
  // The list has only the beginning of a long body.
  const { ok, message, data } = await ask(`/dead-letters/${id}`);
  if (shown !== asked) return;
  if (ok) return draw(data);
  // It may be chosen again.
  shown = { id: null };
  say(message);
}

function say(words) {
  place.replaceChildren(h("p", { class: "quiet nothing" }, words));
}

function draw(letter) {
  shown = letter;
  // Somebody else may have decided about it meanwhile.
  if (letter.state !== "dead") drafts.delete(letter.id);
  place.replaceChildren(
    h("header", { class: `summary tone-${letter.state === "dead" ? "broken" : "waiting"}` },
      h("div", { class: "outcome" },
        h("span", { class: "status", id: "letter-state" }, letter.state),
        h("p", { class: "message", id: "letter-reason" }, letter.reason)),
      h("div", { class: "facts" },
        h("span", { class: "fact" }, icon("clock"), dayTime(new Date(letter.died_at))))),
    facts(letter),
    letter.state === "dead" ? decisions(letter) : outcome(letter),
    h("div", { id: "letter-way" }),
  );
  if (letter.action) follow(letter);
}

function facts(letter) {
  const row = (label, value, what) =>
    value !== null && value !== undefined &&
    h("div", { class: "id" }, h("dt", {}, label), h("dd", {}, h("code", {}, String(value)), what && copyButton(String(value), what)));
  return h("dl", { class: "ids" },
    row("Letter", letter.id, "the letter's id"),
    row("Action", letter.action, "the action's id"),
    row("Queue", letter.queue),
    row("Exchange", letter.exchange === "" ? null : letter.exchange),
    row("Routing key", letter.routing_key),
    row("Attempts", letter.attempts),
    row("Published", letter.published_at && dayTime(new Date(letter.published_at))),
    row("Message id", letter.message_id === letter.action ? null : letter.message_id),
    row("Content type", letter.content_type),
    row("Trace", letter.traceparent),
  );
}

/** What became of a letter that is not dead any more. */
function outcome({ state, decided_at, decided_why, body }) {
  return h("div", { class: "side" },
    h("p", { class: "hint" }, `It was ${state} at ${dayTime(new Date(decided_at))}`, decided_why ? `: ${decided_why}` : "."),
    h("pre", { class: "body", tabindex: "0", "aria-label": "Body" }, h("code", {}, layOutText(body))));
}

/** The body, to be edited, and the two buttons. */
function decisions(letter) {
  const { body, encoding, truncated } = letter;
  const isText = encoding === "text";
  const editor = h("textarea", { id: "letter-body", spellcheck: "false", autocapitalize: "off", autocomplete: "off", readonly: !isText });
  editor.value = isText ? layOutText(body) : body;
  // As the browser gives it back: it may write the ends of lines another way.
  const own = editor.value;
  editor.rows = Math.min(24, Math.max(6, own.split("\n").length + 1));
  const note = h("p", { class: "note", role: "status", id: "letter-note" });
  const changed = h("span", { class: "quiet", id: "letter-edited" });
  const reason = h("input", { type: "text", id: "letter-why", maxlength: 255, placeholder: "why it is not needed", "aria-label": "Why the letter is not needed" });
  const replay = h("button", { type: "button", class: "button primary", id: "letter-replay" }, icon("replay"), "Replay");
  const discard = h("button", { type: "submit", class: "button", id: "letter-discard" }, icon("discard"), "Discard");

  const check = () => {
    const problem = isEdited(letter.id) ? problemOf(editor.value) : null;
    changed.textContent = isEdited(letter.id) ? "edited: replayed as it stands here" : "";
    note.textContent = problem === null ? "" : `Not JSON: ${problem}. It is replayed as it stands.`;
  };
  editor.addEventListener("input", () => {
    if (editor.value === own) drafts.delete(letter.id);
    else drafts.set(letter.id, editor.value);
    check();
  });
  editor.value = drafts.get(letter.id) ?? own;
  check();
  const begun = h("p", { class: "hint", id: "letter-replaying" });
  const tellBegun = () => {
    begun.hidden = letter.replaying_at === null;
    begun.textContent = begun.hidden ? "" : `A replay began at ${dayTime(new Date(letter.replaying_at))} and was not told to have ended: it may be in its queue already.`;
  };
  tellBegun();
  let deciding = false;
  const decide = async (what, body) => {
    if (deciding) return;
    deciding = true;
    setBusy([replay, discard], true);
    const { ok, message } = await ask(`/dead-letters/${letter.id}/${what}`, body);
    const now = await ask(`/dead-letters/${letter.id}`);
    setBusy([replay, discard], false);
    deciding = false;
    note.textContent = ok ? "" : message;
    spoken.textContent = ok && what === "discard" ? `Discarded: ${letter.id}` : message;
    if (!ok) {
      // A replay may have begun all the same.
      if (now.ok) letter.replaying_at = now.data.replaying_at;
      return tellBegun();
    }
    drafts.delete(letter.id);
    if (shown === letter) {
      const focused = place.contains(document.activeElement);
      if (now.ok) draw(now.data);
      else say(message);
      if (focused) place.focus();
    }
    decided();
  };
  replay.addEventListener("click", () => decide("replay", isEdited(letter.id) ? { body: editor.value } : {}));
  const form = h("form", { class: "decide", novalidate: true }, replay, reason, discard);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const why = reason.value.trim();
    if (why !== "") return decide("discard", { reason: why, anyway: letter.replaying_at !== null });
    note.textContent = WHY;
    reason.focus();
  });
  return h("div", { class: "side" },
    h("h3", {}, h("label", { for: "letter-body" }, "Body"), changed),
    !isText && h("p", { class: "hint" }, "It is not text: it is shown in base64, and can be replayed as it is."),
    begun,
    truncated && h("p", { class: "hint" }, "Its end is missing: it can be replayed only with another body."),
    editor, note, form);
}

/** The trail of the letter's action, below it. */
function follow(letter) {
  const wanted = () => shown === letter;
  const again = () => follow(letter);
  const changed = (known) => {
    if (wanted()) trail.show(byId("letter-way"), known, { id: "letter-trail", again });
  };
  return trail.follow(letter.action, changed, wanted);
}
