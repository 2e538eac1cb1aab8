// Which view of the page is shown: the address says so behind its #, so that a view can be linked to and left with the
// browser's own back.

import { byId } from "./dom.js";

const TITLE = "Switchboard · test console";
/** The views by the first part of the address: the title of each, and where the keyboard goes past the head of the page. */
const views = {
  console: { title: TITLE, skip: "payload", to: "Skip to the payload" },
  "dead-letters": { title: `Dead letters · ${TITLE}`, skip: "letters-text", to: "Skip to the letters" },
};

/**
 * Shows what the address names, now and whenever it changes.
 * @param {Record<string, (rest: string) => void>} shown Called with the rest of the address when its view is shown.
 */
export function start(shown) {
  const show = () => {
    const [asked, ...rest] = location.hash.slice(1).split("/");
    const view = asked === "" ? "console" : asked;
    // Whatever else is behind the # is a place in the view that is shown.
    if (Object.hasOwn(views, view)) open(view, rest.join("/"));
  };
  const open = (view, rest) => {
    for (const name of Object.keys(views)) {
      byId(`view-${name}`).hidden = name !== view;
      const link = byId(`to-${name}`);
      if (name === view) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
    document.title = views[view].title;
    Object.assign(byId("skip"), { href: `#${views[view].skip}`, textContent: views[view].to });
    shown[view]?.(rest);
  };
  addEventListener("hashchange", show);
  open("console", "");
  show();
}
