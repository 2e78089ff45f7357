// A command with a button that copies it.

import { h } from "./dom.js";
import { icon } from "./icons.js";

const SHOWN_MS = 2_500;
const copied = new Map();

/** `command` in a line with a Copy button; `what` names it for those who do not see it. */
export function command(text, what) {
  if (!text) return null;
  const outcome = copied.get(text);
  return h("div.command", { key: text },
    h("code", {}, text),
    h("button.quiet", { type: "button", "aria-label": `${outcome ?? "Copy"}: ${what}`, on: { click: () => copy(text) } },
      icon(outcome === "Copied" ? "ok" : "copy", 15), h("span", {}, outcome ?? "Copy")));
}

async function copy(text) {
  copied.set(text, (await write(text)) ? "Copied" : "Select and copy by hand");
  document.dispatchEvent(new CustomEvent("headrace-redraw"));
  setTimeout(() => {
    copied.delete(text);
    document.dispatchEvent(new CustomEvent("headrace-redraw"));
  }, SHOWN_MS);
}

async function write(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // Not allowed, or no secure context (another machine's name): the way of before.
  }
  const area = document.createElement("textarea");
  area.value = text;
  area.className = "vh";
  document.body.append(area);
  const focused = document.activeElement;
  area.select();
  const isDone = document.execCommand("copy");
  area.remove();
  focused?.focus();
  return isDone;
}
