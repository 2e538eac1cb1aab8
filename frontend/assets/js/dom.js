// Builds elements. Text is only ever set as text, so that nothing in an answer can become a part of the page.

/**
 * An element with attributes, listeners (`on…`) and children. Attributes that are `false`, `null` or
 * `undefined` are left out; so are such children.
 * @param {string} tag
 * @param {Record<string, any>} [attributes]
 * @param {...(Node|string|null|undefined|false|Array)} children
 */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

const SVG = "http://www.w3.org/2000/svg";

/** One of the symbols at the head of the page, for the eye only. */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `#icon-${name}`);
  svg.append(use);
  return svg;
}

/** Shows that what these buttons do is under way. They stay, so that the keyboard does too. */
export function setBusy(buttons, busy) {
  for (const button of buttons) button.setAttribute("aria-disabled", String(busy));
}

/** The element with this id; every one that a module asks for is in the page. */
export const byId = (id) => document.getElementById(id);
