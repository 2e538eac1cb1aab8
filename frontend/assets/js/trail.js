// The trail of an action: what became of it after the answer, step by step, as the logger keeps it.

import { ask } from "./api.js";
import { h, icon } from "./dom.js";
import { clockTime, count, dayTime, duration } from "./words.js";

/** How long one question waits for the end. */
const WAIT = "2s";
/** How long a trail is followed, in milliseconds. Whoever wants to know more asks again. */
const FOLLOWED = 120_000;
/** How much later than one question the next is asked at least, in milliseconds. */
const APART = 1_000;

/**
 * A trail, as far as it is known.
 * @typedef {object} Trail
 * @property {string} id      Of the action.
 * @property {boolean} asking Whether it is being followed.
 * @property {any} [known]    The `data` of `GET /actions/{id}`.
 * @property {string} [why]   Why nothing is known.
 */

/**
 * Follows the trail of the action `id` until it is at its end; `changed` is called whenever something new is known.
 * @param {string} id
 * @param {(trail: Trail) => void} changed
 * @param {() => boolean} wanted Whether somebody still looks at it.
 * @returns {Promise<Trail>}
 */
export async function follow(id, changed, wanted) {
  const trail = { id, asking: true };
  changed(trail);
  for (const end = Date.now() + FOLLOWED; Date.now() < end && wanted(); ) {
    const apart = new Promise((resume) => setTimeout(resume, APART));
    const { ok, status, message, data } = await ask(`/actions/${id}?wait=${WAIT}`);
    const before = JSON.stringify([trail.known, trail.why]);
    if (ok) Object.assign(trail, { known: data, why: undefined });
    // A queued log is not known until it is stored, or has failed once.
    else trail.why = status === 404 ? "Nothing is known of it yet." : message;
    if (ok && isOver(data)) break;
    if (JSON.stringify([trail.known, trail.why]) !== before) changed(trail);
    await apart;
  }
  trail.asking = false;
  changed(trail);
  return trail;
}

/** Whether nothing more is to come by itself. Soon after a mail was refused for good, it is with the dead letters. */
const isOver = ({ state, steps }) => state === "done" || (state === "dead" && steps.at(-1).kind !== "failed");

/** How a state is coloured, or a step. */
const toneOf = (what) =>
  ({ done: "good", dead: "broken", failed: "broken", retrying: "bad", deferred: "bad", resent: "bad", conflict: "bad" })[what] ?? "waiting";

/**
 * Shows a trail in `place`. The keyboard stays there.
 * @param {HTMLElement} place
 * @param {Trail} trail
 * @param {{id: string, again: () => void, linked?: boolean}} options `again` follows it anew; `linked` says where its
 * dead letter is.
 */
export function show(place, trail, options) {
  const focused = place.contains(document.activeElement);
  place.replaceChildren(draw(trail, options));
  if (focused) place.firstElementChild.focus();
}

function draw({ id: action, known, why, asking }, { id, again, linked }) {
  const state = known?.state ?? (asking ? "waiting" : "unknown");
  return h(
    "section",
    { class: "trail", id, tabindex: "-1", "aria-label": "Trail" },
    h("h3", {},
      h("span", {}, "Trail ", h("span", { class: `badge state tone-${toneOf(state)}`, id: `${id}-state` }, state)),
      h("span", { class: "quiet" }, known?.attempts > 0 && count(known.attempts, "attempt", "attempts")),
    ),
    known && h("ol", { class: "steps" }, known.steps.map((step) => drawStep(step, new Date(known.steps[0].at)))),
    why && h("p", { class: "quiet" }, why),
    asking && h("div", { class: "pulse" }),
    !asking && !(known && isOver(known)) &&
      h("button", { type: "button", class: "button small", onclick: again }, icon("clock"), "Look again"),
    linked && ["dead", "conflict"].includes(known?.steps.at(-1).kind) &&
      h("p", { class: "hint" }, h("a", { href: `#dead-letters/${action}`, id: `${id}-letter` }, "Look at its dead letter"), "."),
  );
}

function drawStep({ kind, service, at, attempt, why, due }, start) {
  const time = new Date(at);
  const more = [service, attempt && `attempt ${attempt}`, due && `due ${clockTime(new Date(due))}`];
  return h("li", { class: `step tone-${toneOf(kind)}` },
    h("time", { datetime: at, title: dayTime(time) }, time - start === 0 ? clockTime(time) : `+ ${duration(time - start)}`),
    h("span", { class: "kind" }, kind),
    h("span", { class: "quiet" }, more.filter(Boolean).join(", ")),
    why && h("p", { class: "why" }, why),
  );
}

/** What to say of a trail to somebody who does not see it. */
export const spoken = ({ known, why }) => (known ? `The action is ${known.state}.` : (why ?? ""));
