// Single-key shortcuts and the dialog that lists them; they can be switched off there.

import { h, render } from "./dom.js";

const KEY = "headrace-keys";
const HELP = [
  ["?", "This help"], ["1 … 9", "Open a feed, in the order of the cards"], ["j / k", "Next or previous feed"],
  ["h", "All feeds"], ["t", "Theme: system, light, dark"], ["Esc", "Close this, or back to all feeds"],
];
let areOn = read();

/** Listen. `actions`: {open(number), step(by), home(), theme()}. */
export function listen(actions) {
  document.addEventListener("keydown", (event) => {
    const isTyping = event.target.closest?.("input, textarea, select");
    if (event.ctrlKey || event.altKey || event.metaKey || isTyping || event.defaultPrevented) return;
    const dialog = document.getElementById("help");
    if (dialog.open) return;
    if (event.key === "Escape") return actions.home();
    if (!areOn) return;
    if (event.key === "?") return showHelp();
    if (/^[1-9]$/.test(event.key)) return actions.open(Number(event.key));
    const action = { j: () => actions.step(1), k: () => actions.step(-1), h: actions.home, t: actions.theme }[event.key];
    action?.();
  });
}

/** Open the dialog of shortcuts. */
export function showHelp() {
  const dialog = document.getElementById("help");
  draw(dialog);
  if (!dialog.open) dialog.showModal();
}

function draw(dialog) {
  const close = () => dialog.close();
  render(dialog,
    h("h2", { id: "help-title" }, "Keyboard"),
    h("table", {}, h("tbody", {}, HELP.map(([keys, meaning]) => h("tr", {}, h("th", { scope: "row" }, h("kbd", {}, keys)), h("td", {}, meaning))))),
    h("p", {}, "In a chart and in the calendar the arrow keys read single values. Times are UTC."),
    h("label", {}, h("input", { type: "checkbox", checked: areOn, on: { change: (event) => save(event.target.checked) } }), "Single keys are shortcuts"),
    h("form", { method: "dialog" }, h("button", { type: "button", on: { click: close } }, "Close")));
}

function read() {
  try {
    return localStorage.getItem(KEY) !== "off";
  } catch {
    return true;
  }
}

function save(isOn) {
  areOn = isOn;
  try {
    localStorage.setItem(KEY, isOn ? "on" : "off");
  } catch {
    // Storage is switched off: the choice holds for as long as the page is open.
  }
}
