// The same request as a command for a POSIX shell.

/** Quotes a text so that a shell takes it as it is. */
export const quote = (text) => `'${text.replaceAll("'", `'\\''`)}'`;

/**
 * The command. It begins a trace of its own: a request that is sent again is another request.
 * @param {{method: string, url: string, headers: [string, string][], body: string}} request
 */
export function curlOf({ method, url, headers, body }) {
  const kept = headers.filter(([name]) => name !== "traceparent");
  const lines = [
    `curl -i -X ${method} ${quote(url)}`,
    ...kept.map(([name, value]) => `-H ${quote(`${name}: ${value}`)}`),
  ];
  if (body !== "") lines.push(`--data-raw ${quote(body)}`);
  return lines.join(" \\\n  ");
}
