// Signs that differ in shape, not only in colour; each stands beside its word.

import { h } from "./dom.js";

const PATHS = {
  ok: ["M12 3a9 9 0 1 0 0 18a9 9 0 1 0 0-18z", "M8 12.2l2.8 2.8L16 9.6"],
  warn: ["M12 3.5L22 20.5H2z", "M12 10v4.5M12 17.3v.1"],
  bad: ["M8.2 3h7.6L21 8.2v7.6L15.8 21H8.2L3 15.8V8.2z", "M9 9l6 6M15 9l-6 6"],
  off: ["M12 3a9 9 0 1 0 0 18a9 9 0 1 0 0-18z", "M8 12h8"],
  idle: ["M12 3a9 9 0 1 0 0 18a9 9 0 1 0 0-18z", "M12 7.5V12l3 2"],
  wait: ["M5 3h14M5 21h14", "M7 3c0 5 10 6 10 9s-10 4-10 9M17 3c0 5-10 6-10 9s10 4 10 9"],
  copy: ["M9 9h11v11H9z", "M15 9V4H4v11h5"],
  theme: ["M12 3a9 9 0 1 0 0 18a9 9 0 1 0 0-18z", "M12 3v18"],
  keys: ["M3 6h18v12H3z", "M7 10h.1M11 10h.1M15 10h.1M8 14h8"],
  back: ["M14 6l-6 6 6 6"],
  next: ["M10 6l6 6-6 6"],
  link: ["M14 4h6v6M20 4l-9 9", "M18 14v6H4V6h6"],
};

/** A sign as SVG; it is decoration, so the word beside it must say the same. */
export function icon(name, size = 16) {
  return h(
    `svg.icon.icon-${name}`,
    { viewBox: "0 0 24 24", width: size, height: size, "aria-hidden": "true", focusable: "false" },
    PATHS[name].map((d) => h("path", { d })),
  );
}

/** Which sign and tone a condition has; an unknown word is shown as it is. */
const TONES = {
  live: "ok", idle: "idle", lagging: "warn", silent: "warn", stalled: "bad", dead: "bad",
  stopped: "off", "never started": "off",
  running: "ok", waiting: "bad", failed: "bad", starting: "wait", stopping: "wait", account: "idle",
  available: "ok", degraded: "warn", pending: "wait", missing: "bad", unknown: "off",
  up: "ok", unreachable: "bad", off: "off",
  reading: "ok", "at the tip": "ok", behind: "wait", "not started": "off", throttled: "warn", ended: "off",
  completed: "ok", crashed: "bad", cancelled: "off", cancelling: "wait", scheduled: "wait", late: "warn",
  paused: "off", retrying: "warn", awaitingretry: "warn",
};

export const tone = (word) => TONES[String(word).toLowerCase()] ?? "off";

/** A condition in a word with its sign. */
export function chip(word, text = word) {
  const kind = tone(word);
  return h(`span.chip.tone-${kind}`, {}, icon(kind, 15), h("span", {}, text));
}
