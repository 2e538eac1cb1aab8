// A W3C trace context (https://www.w3.org/TR/trace-context/) that begins here, in the browser, so that one
// trace id goes from this page to the document that a request ends in.

/** @param {number} bytes @returns {string} Random lowercase hexadecimal digits, never all zero. */
function randomHex(bytes) {
  const values = crypto.getRandomValues(new Uint8Array(bytes));
  // An id of zeros is not valid; this is as likely as finding another's id.
  if (values.every((value) => value === 0)) values[bytes - 1] = 1;
  return Array.from(values, (value) => value.toString(16).padStart(2, "0")).join("");
}

/** A new trace: its id, and the `traceparent` header that begins it (sampled). */
export function newTrace() {
  const traceId = randomHex(16);
  return { traceId, traceparent: `00-${traceId}-${randomHex(8)}-01` };
}

/** The trace id in a `traceparent` header, or `null`. */
export function traceIdOf(traceparent) {
  return /^[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}/.exec(traceparent ?? "")?.[1] ?? null;
}
