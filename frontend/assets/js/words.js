// Numbers and times as people read them.

/** Milliseconds: `0.8 ms`, `12 ms`, `1.24 s`. */
export function duration(milliseconds) {
  if (milliseconds < 9.95) return `${milliseconds.toFixed(1)} ms`;
  if (milliseconds < 1000) return `${Math.round(milliseconds)} ms`;
  return `${(milliseconds / 1000).toFixed(2)} s`;
}

/** How large a text is in UTF-8: `312 bytes`, `1.2 KiB`. */
export function size(text) {
  const bytes = new TextEncoder().encode(text).length;
  if (bytes < 1024) return `${bytes} ${bytes === 1 ? "byte" : "bytes"}`;
  return `${(bytes / 1024).toFixed(1)} KiB`;
}

/** The time of day, to the second, as this browser's language has it. */
export const clockTime = (date) => date.toLocaleTimeString();

/** The day and the time of day, as this browser's language has them. */
export const dayTime = (date) => date.toLocaleString();

/** `1 letter`, `3 letters`. */
export const count = (number, one, many) => `${number} ${number === 1 ? one : many}`;

/** How an exchange went, for its colour: `good`, `bad` (the request), `broken` (the system), `waiting`. */
export function toneOf({ state, answer }) {
  if (state === "pending" || state === "cancelled") return "waiting";
  if (!answer || answer.status >= 500) return "broken";
  return answer.status >= 400 ? "bad" : "good";
}
