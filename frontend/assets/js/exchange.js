// The right side of the console: one request and its answer, side by side.

import { copyButton } from "./clipboard.js";
import { curlOf } from "./curl.js";
import { byId, h, icon } from "./dom.js";
import { failureOf } from "./failure.js";
import { layOut } from "./json.js";
import * as trail from "./trail.js";
import { clockTime, duration, size, toneOf } from "./words.js";
import { mailPageUrl } from "./settings.js";

const place = byId("exchange");
const spoken = byId("spoken");

/**
 * Shows an exchange.
 * @param {import("./api.js").Exchange} exchange
 * @param {(exchange: import("./api.js").Exchange) => void} edit Puts it into the editor again.
 * @param {(exchange: import("./api.js").Exchange) => void} follow Follows its trail anew.
 */
export function show(exchange, edit, follow) {
  place.dataset.state = exchange.state;
  place.replaceChildren(
    summary(exchange, edit),
    ids(exchange),
    h("div", { class: "sides" }, sent(exchange), received(exchange)),
    h("div", { id: "exchange-trail" }),
    command(exchange),
  );
  showTrail(exchange, follow);
}

/** Shows what is known of its trail by now, and leaves the rest as it is. */
export function showTrail(exchange, follow) {
  const again = () => follow(exchange);
  if (exchange.trail) trail.show(byId("exchange-trail"), exchange.trail, { id: "trail", again, linked: true });
}

/** Says to a screen reader what became of a trail. */
export function say(words) {
  spoken.textContent = words;
}

/** Says to a screen reader what came of a request. */
export function announce({ answer, state, milliseconds }) {
  const outcome = answer ? `${answer.status} ${answer.reason}. ${answer.reply?.message ?? ""}` : titleOf(state);
  spoken.textContent = `${outcome} After ${duration(milliseconds)}.`;
}

function summary(exchange, edit) {
  const { action, answer, state, milliseconds } = exchange;
  const message = answer?.reply?.message ?? (answer ? "The answer is not in the broker's form." : titleOf(state));
  return h(
    "header",
    { class: `summary tone-${toneOf(exchange)}` },
    h("div", { class: "outcome" },
      h("span", { class: "status", id: "status" }, answer ? `${answer.status} ${answer.reason}` : state),
      h("p", { class: "message", id: "message" }, message),
    ),
    h("div", { class: "facts" },
      h("span", { class: `badge hue-${action.id}` }, icon(action.id), action.label),
      exchange.async && h("span", { class: "badge" }, "async"),
      milliseconds !== undefined && h("span", { class: "fact", id: "duration" }, icon("clock"), duration(milliseconds)),
      h("time", { class: "fact", datetime: exchange.at.toISOString() }, clockTime(exchange.at)),
      h("button", { type: "button", class: "button small", id: "edit-again", onclick: () => edit(exchange) },
        icon("edit"), "Edit again"),
    ),
  );
}

function ids({ requestId, traceId, answer }) {
  const row = (label, id, value, what) =>
    h("div", { class: "id" },
      h("dt", {}, label),
      h("dd", {}, h("code", { id }, value), copyButton(value, what)),
    );
  return h(
    "dl",
    { class: "ids" },
    requestId && row("Request id", "request-id", requestId, "the request id"),
    answer?.reply?.id && answer.reply.id !== requestId && row("Id", "effect-id", answer.reply.id, "the id"),
    row("Trace id", "trace-id", traceId, "the trace id"),
  );
}

function sent({ method, url, headers, body }) {
  const { pathname } = new URL(url);
  return side("Sent", "sent", `${method} ${pathname}`, headers, body, "No body");
}

function received(exchange) {
  const { answer, failure, state } = exchange;
  if (state === "pending") {
    return h("section", { class: "side waiting", "aria-label": "Received" },
      h("h3", {}, "Received"), h("p", { class: "quiet" }, "Waiting for the broker…"), h("div", { class: "pulse" }));
  }
  if (state === "cancelled") {
    return h("section", { class: "side", "aria-label": "Received" },
      h("h3", {}, "Received"),
      h("p", { class: "quiet" }, "You stopped waiting. The broker may have accepted the request all the same."));
  }
  if (failure) return unanswered(failure);
  const line = `${answer.status} ${answer.reason}`;
  const part = side("Received", "received", line, answer.headers, answer.text, "No body");
  const extra = [failingFields(answer), exchange.action.mailPage && !answer.reply?.error && mailLink()];
  part.querySelector(".head").after(...extra.filter(Boolean));
  return part;
}

function side(title, id, line, headers, body, nothing) {
  return h(
    "section",
    { class: "side", "aria-label": title, id },
    h("h3", {}, title, h("span", { class: "quiet" }, size(body))),
    h("div", { class: "head" },
      h("code", { class: "line" }, line),
      headers.map(([name, value]) => h("div", { class: "header" }, h("span", { class: "name" }, name), h("span", {}, value))),
    ),
    body === ""
      ? h("p", { class: "quiet nothing" }, nothing)
      : h("pre", { class: "body", tabindex: "0", "aria-label": `${title}: body` },
          h("code", {}, layOut(body).map(({ kind, text }) => h("span", { class: `json-${kind}` }, text)))),
  );
}

/** The fields of a payload that failed validation, each with what is wrong. */
function failingFields({ reply }) {
  const fields = reply?.data?.fields;
  if (!reply?.error || !Array.isArray(fields)) return null;
  return h("ul", { class: "fields" },
    fields.map(({ field, message }) => h("li", {}, h("code", {}, String(field)), ` ${message}`)));
}

function mailLink() {
  return h("p", { class: "hint" }, "Look at it on the ",
    h("a", { href: mailPageUrl, target: "_blank", rel: "noopener noreferrer" }, "mail page"), ".");
}

function unanswered(failure) {
  const { title, steps } = failureOf(failure);
  return h(
    "section",
    { class: "side failure", id: "failure", "aria-label": "Received" },
    h("h3", {}, "Received"),
    h("div", { class: "notice" },
      h("p", { class: "notice-title" }, icon("unplugged"), h("strong", {}, title)),
      h("p", {}, "What to try:"),
      h("ul", {}, steps.map((step) => h("li", {}, step)))),
  );
}

function command(exchange) {
  const text = curlOf(exchange);
  return h("section", { class: "command", "aria-label": "The same with curl" },
    h("h3", {}, "The same with curl", copyButton(text, "the curl command", "Copy")),
    h("pre", { tabindex: "0", id: "curl", "aria-label": "curl command" }, h("code", {}, text)));
}

function titleOf(state) {
  return { pending: "Sent, waiting for the answer…", cancelled: "Not waited for.", failed: "There was no answer." }[state];
}
