// Which view of the page is shown: the address says so behind its #, so that a view can be linked to and left with the
// browser's own back.

import { byId } from "./dom.js";

const TITLE = "Switchboard · test console";
/** The views by the first part of the address; the first is shown where the address names none. */
const views = { console: TITLE, "dead-letters": `Dead letters · ${TITLE}` };

/**
 * Shows what the address names, now and whenever it changes.
 * @param {Record<string, (rest: string) => void>} shown Called with the rest of the address when its view is shown.
 */
export function start(shown) {
  const show = () => {
    const [asked, ...rest] = location.hash.slice(1).split("/");
    const view = asked in views ? asked : "console";
    for (const name of Object.keys(views)) {
      byId(`view-${name}`).hidden = name !== view;
      const link = byId(`to-${name}`);
      if (name === view) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
    document.title = views[view];
    shown[view]?.(rest.join("/"));
  };
  addEventListener("hashchange", show);
  show();
}
