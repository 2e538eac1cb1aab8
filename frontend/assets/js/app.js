// Where the console begins: it joins the parts of the page to each other.
//
//   composer.js --a request--> api.js --an exchange--> exchange.js (shows it), history.js (keeps it)
//   trail.js    --until the action is at its end--> api.js
//   letters.js, letter.js (the dead letters) --when they are looked at--> api.js
//   health.js   --every few seconds--> api.js
//
// Each part draws its own piece of the page and knows nothing of the others.

import * as api from "./api.js";
import * as composer from "./composer.js";
import { byId } from "./dom.js";
import * as exchangeView from "./exchange.js";
import * as health from "./health.js";
import * as history from "./history.js";
import * as letters from "./letters.js";
import { mailPageUrl } from "./settings.js";
import * as trail from "./trail.js";
import * as views from "./views.js";

let shown = null;
let underWay = null;

function show(exchange) {
  shown = exchange;
  exchangeView.show(exchange, editAgain, follow);
  history.mark(exchange);
}

function editAgain(exchange) {
  composer.load(exchange.action, exchange.body, exchange.async);
  composer.focusEditor();
}

async function send(action, body, async) {
  const exchange = api.prepare(action, body, async);
  underWay = new AbortController();
  composer.setBusy(true);
  history.add(exchange);
  show(exchange);
  await api.send(exchange, underWay.signal);
  underWay = null;
  composer.setBusy(false);
  // Someone may be looking at an earlier one by now.
  if (shown === exchange) show(exchange);
  else history.render();
  exchangeView.announce(exchange);
  if (exchange.state === "failed" || exchange.answer?.status >= 500) health.ask();
  if (api.trailId(exchange)) await follow(exchange);
}

/** Follows the trail of what was asked for, until another is shown. */
async function follow(exchange) {
  const wanted = () => shown === exchange;
  const changed = (now) => {
    exchange.trail = now;
    if (wanted()) exchangeView.showTrail(exchange, follow);
  };
  const last = await trail.follow(api.trailId(exchange), changed, wanted);
  // Of what was not queued, its answer has said it.
  if (wanted() && exchange.async) exchangeView.say(trail.spoken(last));
}

byId("mail-page").href = mailPageUrl;
history.start(show);
composer.start(send, () => underWay?.abort());
health.start();
letters.start();
views.start({ "dead-letters": letters.show });
