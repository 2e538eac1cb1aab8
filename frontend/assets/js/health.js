// The strip of lamps at the top: how every service is, as the broker sees it, asked every few seconds.

import { health } from "./api.js";
import { byId, h } from "./dom.js";
import { brokerUrl } from "./settings.js";

/** How long to wait between two questions, in milliseconds. */
const PAUSE = 5_000;

const lamps = byId("lamps");
const word = byId("health-word");
const troubles = byId("troubles");
let timer;

/** Starts asking. A page that nobody looks at does not ask. */
export function start() {
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) ask();
  });
  ask();
}

/** Asks now, and again after a pause. */
export async function ask() {
  clearTimeout(timer);
  render(await health());
  clearTimeout(timer);
  if (!document.hidden) timer = setTimeout(ask, PAUSE);
}

function render(services) {
  const known = services ?? [];
  const failing = known.filter((service) => service.ok !== true);
  const state = services === null ? "unknown" : failing.length > 0 ? "failing" : "ready";
  lamps.parentElement.dataset.state = state;
  lamps.replaceChildren(
    ...known.map(({ name, ok, error }) =>
      h("li", { class: ok === true ? "lamp lit" : "lamp out", title: ok === true ? `${name}: ready` : `${name}: ${error ?? "not ready"}` },
        name, h("span", { class: "visually-hidden" }, ok === true ? " ready" : " not ready"))),
  );
  say({
    unknown: `No word from the broker at ${brokerUrl}`,
    failing: `${failing.length} of ${known.length} not ready`,
    ready: "All ready",
  }[state]);
  const lines = failing.map(({ name, error }) => `${name}: ${error ?? "not ready"}`);
  if (troubles.dataset.lines !== lines.join("\n")) {
    troubles.dataset.lines = lines.join("\n");
    troubles.replaceChildren(...lines.map((line) => h("li", {}, line)));
    troubles.hidden = lines.length === 0;
  }
}

/** Sets the words only when they are others, so that a screen reader does not repeat them. */
function say(words) {
  if (word.textContent !== words) word.textContent = words;
}
