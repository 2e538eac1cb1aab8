// Talks to the broker: sends one request and tells what became of it, and asks what the broker knows: the system's
// health, trails, dead letters.

import { brokerUrl } from "./settings.js";
import { valueOf } from "./json.js";
import { newTrace, traceIdOf } from "./trace.js";

/** How long an answer may take, in milliseconds. */
const PATIENCE = 30_000;
/** How long the broker may take to say how the system is. */
const HEALTH_PATIENCE = 8_000;
/** How long it may take with a question, what it is asked to wait included. */
const QUESTION_PATIENCE = 15_000;
/** The headers of an answer that the broker shows to a page of another origin. */
const SHOWN = ["content-type", "location", "preference-applied", "retry-after", "traceparent", "x-request-id"];

/**
 * A request and what became of it.
 * @typedef {object} Exchange
 * @property {import("./actions.js").Action} action
 * @property {boolean} async            Sent with `Prefer: respond-async`.
 * @property {string} method
 * @property {string} url
 * @property {[string, string][]} headers
 * @property {string} body              As typed.
 * @property {Date} at
 * @property {"pending"|"answered"|"failed"|"cancelled"} state
 * @property {string} traceId
 * @property {number} [milliseconds]    Until the whole answer was there.
 * @property {{status: number, reason: string, headers: [string, string][], text: string, reply: any}} [answer]
 * @property {string|null} [requestId]  As answered.
 * @property {"unreachable"|"refused"|"late"} [failure] Why there is no answer.
 * @property {import("./trail.js").Trail} [trail] Of what was accepted, where there is one.
 */

/** A request that is about to be sent. @returns {Exchange} */
export function prepare(action, body, async) {
  const { traceId, traceparent } = newTrace();
  const headers = [];
  if (body !== "") headers.push(["content-type", "application/json"]);
  if (async) headers.push(["prefer", "respond-async"]);
  headers.push(["traceparent", traceparent]);
  const url = `${brokerUrl}${action.path}`;
  return { action, async, method: "POST", url, headers, body, at: new Date(), state: "pending", traceId };
}

/**
 * Sends it, and writes into it what became of it. Never throws.
 * @param {Exchange} exchange
 * @param {AbortSignal} cancelled
 */
export async function send(exchange, cancelled) {
  const late = AbortSignal.timeout(PATIENCE);
  const started = performance.now();
  try {
    const response = await fetch(exchange.url, {
      method: exchange.method,
      headers: exchange.headers,
      body: exchange.body === "" ? undefined : exchange.body,
      cache: "no-store",
      credentials: "omit",
      signal: AbortSignal.any([late, cancelled]),
    });
    const text = await response.text();
    const headers = SHOWN.filter((name) => response.headers.has(name));
    exchange.answer = {
      status: response.status,
      reason: response.statusText || reasonOf(response.status),
      headers: headers.map((name) => [name, response.headers.get(name)]),
      text,
      reply: valueOf(text),
    };
    const { reply } = exchange.answer;
    exchange.requestId = response.headers.get("x-request-id") ?? reply?.id ?? null;
    exchange.traceId = reply?.trace_id ?? traceIdOf(response.headers.get("traceparent")) ?? exchange.traceId;
    exchange.state = "answered";
  } catch {
    exchange.milliseconds = performance.now() - started;
    if (!cancelled.aborted) exchange.failure = late.aborted ? "late" : await whyNot();
    exchange.state = cancelled.aborted ? "cancelled" : "failed";
    return;
  }
  exchange.milliseconds = performance.now() - started;
}

/** The id of the action whose trail the system keeps, if there is one: of what is queued, and of each mail. */
export function trailId({ answer }) {
  const { headers = [], reply } = answer ?? {};
  const queued = headers.some(([name]) => name === "location");
  return queued ? reply?.id : reply?.data?.message_id && reply.data.id;
}

/**
 * Why there was no answer. A browser does not say; but a request whose answer the page does not ask to read
 * fails only when nothing answers at that address.
 */
async function whyNot() {
  try {
    const signal = AbortSignal.timeout(HEALTH_PATIENCE);
    await fetch(`${brokerUrl}/ping`, { mode: "no-cors", cache: "no-store", credentials: "omit", signal });
    return "refused";
  } catch {
    return "unreachable";
  }
}

/**
 * How the services are, as the broker sees them.
 * @returns {Promise<{name: string, ok: boolean, error?: string}[]|null>} `null` without an answer that can be
 * understood.
 */
export async function health() {
  try {
    const signal = AbortSignal.timeout(HEALTH_PATIENCE);
    const response = await fetch(`${brokerUrl}/health`, { cache: "no-store", credentials: "omit", signal });
    const services = (await response.json())?.data?.services;
    if (!Array.isArray(services)) return null;
    return services.filter((service) => typeof service?.name === "string");
  } catch {
    return null;
  }
}

/**
 * What the broker says to a question, or to a decision where there is a body. Never throws.
 * @param {string} path Below the broker's address.
 * @param {object} [body] Posted as JSON.
 * @returns {Promise<{ok: boolean, status: number, message: string, data?: any, late?: boolean}>} `status` 0: there
 * was no answer; `late`: none in time.
 */
export async function ask(path, body) {
  const signal = AbortSignal.timeout(QUESTION_PATIENCE);
  try {
    const response = await fetch(`${brokerUrl}${path}`, {
      method: body ? "POST" : "GET",
      headers: body ? { "content-type": "application/json" } : {},
      body: body && JSON.stringify(body),
      cache: "no-store",
      credentials: "omit",
      signal,
    });
    const reply = valueOf(await response.text());
    const message = reply?.message ?? `${response.status} ${reasonOf(response.status)}`;
    return { ok: response.ok, status: response.status, message, data: reply?.data };
  } catch {
    const late = signal.aborted;
    const message = late ? `The broker at ${brokerUrl} did not answer in time.` : `There is no broker at ${brokerUrl}.`;
    return { ok: false, status: 0, message, late };
  }
}

/** The usual words for a status, where the connection carries none (HTTP/2). */
function reasonOf(status) {
  const reasons = {
    200: "OK", 202: "Accepted", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found",
    405: "Method Not Allowed", 408: "Request Timeout", 409: "Conflict", 413: "Payload Too Large",
    415: "Unsupported Media Type", 422: "Unprocessable Entity", 429: "Too Many Requests",
    500: "Internal Server Error", 502: "Bad Gateway", 503: "Service Unavailable", 504: "Gateway Timeout",
  };
  return reasons[status] ?? "";
}
