// The settings of the console, which the service wrote into the page's <meta> elements.

/** The content of `<meta name="…">`, or the empty string. */
const meta = (name) => document.querySelector(`meta[name="${name}"]`)?.content ?? "";

/** The broker, as this browser reaches it; without a slash at its end. */
export const brokerUrl = meta("broker-url");

/** The page of the mail catcher. */
export const mailPageUrl = meta("mail-page-url");
