// JSON for people: laid out and split into coloured tokens, without changing a digit of it.
//
// Numbers and strings are kept as they were written (JSON.parse would round 2^53 + 1 and drop a key that is
// there twice), so that what the page shows is what went over the wire.

/** @typedef {{kind: "key"|"string"|"number"|"word"|"mark", text: string}} Token */

const TOKEN = /"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null|[{}[\]:,]/g;

/** Why `text` is not one JSON value, or `null` when it is one. */
export function problemOf(text) {
  try {
    JSON.parse(text);
    return null;
  } catch (error) {
    return text.trim() === "" ? "it is empty" : error.message.replace(/^JSON\.parse: /, "");
  }
}

/** What `text` is as a value, or `undefined` when it is not JSON. */
export function valueOf(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** The tokens of a valid JSON text. @returns {Token[]} */
function tokensOf(text) {
  const tokens = [];
  for (const [part] of text.matchAll(TOKEN)) {
    if (part === ":" && tokens.at(-1)?.kind === "string") tokens.at(-1).kind = "key";
    const first = part[0];
    const kind =
      first === '"' ? "string" : /[{}[\]:,]/.test(first) ? "mark" : /[-\d]/.test(first) ? "number" : "word";
    tokens.push({ kind, text: part });
  }
  return tokens;
}

/**
 * Lays a text out with two spaces a level. What is not JSON comes back as one token, unchanged.
 * @param {string} text
 * @returns {Token[]} In order; their texts together are the whole.
 */
export function layOut(text) {
  if (problemOf(text) !== null) return [{ kind: "mark", text }];
  const tokens = tokensOf(text);
  const out = [];
  const add = (kind, piece) => {
    if (kind === "mark" && out.at(-1)?.kind === "mark") out.at(-1).text += piece;
    else out.push({ kind, text: piece });
  };
  let depth = 0;
  const newLine = () => add("mark", `\n${"  ".repeat(depth)}`);
  tokens.forEach((token, i) => {
    const next = tokens[i + 1]?.text;
    if (token.kind !== "mark") return add(token.kind, token.text);
    switch (token.text) {
      case "{":
      case "[":
        add("mark", token.text);
        depth += 1;
        if (next !== "}" && next !== "]") newLine();
        break;
      case "}":
      case "]": {
        depth -= 1;
        const before = tokens[i - 1]?.text;
        if (before !== "{" && before !== "[") newLine();
        add("mark", token.text);
        break;
      }
      case ",":
        add("mark", ",");
        newLine();
        break;
      default:
        add("mark", ": ");
    }
  });
  return out;
}

/** The same as plain text. */
export const layOutText = (text) => layOut(text).map((token) => token.text).join("");
