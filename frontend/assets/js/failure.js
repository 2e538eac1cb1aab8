// What to tell a person when there was no answer, and what to try.

import { h } from "./dom.js";
import { brokerUrl } from "./settings.js";

const code = (text) => h("code", {}, text);

/**
 * @param {"unreachable"|"refused"|"late"} failure
 * @returns {{title: string, steps: (string|Node|(string|Node)[])[]}}
 */
export function failureOf(failure) {
  switch (failure) {
    case "refused":
      return {
        title: `The broker at ${brokerUrl} answers, but does not let this page read it.`,
        steps: [
          ["Add ", code(location.origin), " to ", code("CORS_ALLOWED_ORIGINS"), " of the broker, and start it again."],
          ["Or open this console at an address that is among them."],
        ],
      };
    case "late":
      return {
        title: `The broker at ${brokerUrl} did not answer within 30 seconds.`,
        steps: [
          ["Look at the strip at the top for a service that is not ready."],
          ["Look at its log: ", code("make logs S=broker"), "."],
        ],
      };
    default:
      return { title: `There is no broker at ${brokerUrl}.`, steps: unreachableSteps() };
  }
}

function unreachableSteps() {
  const steps = [
    ["See whether it runs: ", code("make status"), "; start everything with ", code("make up"), "."],
    ["See what it says: ", code("make logs S=broker"), "."],
  ];
  const broker = new URL(brokerUrl);
  const local = ["localhost", "127.0.0.1", "[::1]"];
  if (local.includes(broker.hostname) && !local.includes(location.hostname)) {
    steps.unshift([
      "You opened this page from ", code(location.hostname), ", and ", code(broker.hostname),
      " is your own machine: set ", code("BROKER_URL"), " of the console to the broker's address as you reach it.",
    ]);
  } else {
    steps.push(["If it is elsewhere, set ", code("BROKER_URL"), " of the console to where a browser reaches it."]);
  }
  if (location.protocol === "https:" && broker.protocol === "http:") {
    steps.unshift(["This page came over https, and a browser then calls nothing over http: give the broker https too."]);
  }
  return steps;
}
