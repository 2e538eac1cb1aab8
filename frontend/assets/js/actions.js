// What the console can send: one entry for each button, with an example payload and the way it takes.

/**
 * @typedef {object} Action
 * @property {string} id      The name in the address of things on the page, and in the history.
 * @property {string} label   The name on its button.
 * @property {string} about   One sentence for a person.
 * @property {string} path    Where it is posted to, below the broker's address.
 * @property {string} example The body, as it stands in the editor at first; empty for none.
 * @property {string[]} way   What a request passes, from here to where its effect is.
 * @property {string[]} [asyncWay] The same with `Prefer: respond-async`, where that is possible.
 * @property {boolean} [mailPage] Whether its effect is to be seen on the mail page.
 */

const json = (value) => JSON.stringify(value, null, 2);

/** @type {Action[]} */
export const actions = [
  {
    id: "broker",
    label: "Broker",
    about: "Says hello. Sends nothing, and is passed on to no one.",
    path: "/",
    example: "",
    way: ["browser", "broker"],
  },
  {
    id: "auth",
    label: "Auth",
    about: "Checks an address and a password, and answers with the user.",
    path: "/handle",
    example: json({ action: "auth", auth: { email: "admin@example.com", password: "verysecret" } }),
    way: ["browser", "broker", "auth", "PostgreSQL"],
  },
  {
    id: "log",
    label: "Log",
    about: "Writes one entry. Its document has the id and the trace of the request.",
    path: "/handle",
    example: json({
      action: "log",
      log: { name: "console", level: "info", data: "Hello from the test console" },
    }),
    way: ["browser", "broker", "logger", "MongoDB"],
    asyncWay: ["browser", "broker", "RabbitMQ", "listener", "logger", "MongoDB"],
  },
  {
    id: "mail",
    label: "Mail",
    about: "Sends one mail, as text and as HTML.",
    path: "/handle",
    example: json({
      action: "mail",
      mail: {
        from: "console@example.com",
        to: "you@example.com",
        subject: "Hello from Switchboard",
        message: "This mail was sent from the test console.",
      },
    }),
    way: ["browser", "broker", "mailer", "mail server"],
    asyncWay: ["browser", "broker", "RabbitMQ", "listener", "mailer", "mail server"],
    mailPage: true,
  },
];
