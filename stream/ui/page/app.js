// The page: takes states, keeps the route, draws what it is about, once a second.

import { measure } from "./charts.js";
import { h, prose, render } from "./dom.js";
import { feedView } from "./feed.js";
import { ago, clock, short } from "./format.js";
import { forget, remember } from "./history.js";
import { icon } from "./icons.js";
import { listen, showHelp } from "./keyboard.js";
import { follow } from "./live.js";
import { overview } from "./overview.js";
import { nextTheme, theme } from "./theme.js";
import { rank, verdict } from "./verdict.js";

const OLD_MS = 10_000;
const at = (id) => document.getElementById(id);

let state = null;
let receivedAt = 0;
let lostSince = null;
let announced = null;
let isPending = false;

/** Now on the clock that wrote the state, so that a browser's own clock does not matter. */
const now = () => state.at_ms + (performance.now() - receivedAt);

function route() {
  const [, kind, name] = location.hash.replace(/^#/, "").split("/");
  return kind === "feed" && name ? { view: "feed", name: decode(name) } : { view: "overview" };
}

function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function redraw() {
  if (isPending) return;
  isPending = true;
  requestAnimationFrame(() => {
    isPending = false;
    draw();
  });
}

function draw() {
  render(at("tools"), ...tools());
  render(at("banner"), ...banners());
  if (!state) return;
  const found = verdict(state);
  render(at("verdict"), ...sentence(found));
  document.body.classList.toggle("lost", lostSince !== null);
  const { view, name } = route();
  render(at("main"), ...[view === "feed" ? feedView(state, name, now()) : overview(state, now())].flat());
  render(at("foot"), ...footer());
  const where = view === "feed" ? `${name} · ` : "";
  document.title = `${lostSince === null ? `${found.word}: ${found.text}` : "Lost"} · ${where}headrace`;
  const look = `/static/icon-${lostSince === null ? found.tone : "off"}.svg`;
  if (at("favicon").getAttribute("href") !== look) at("favicon").setAttribute("href", look);
  announce(found);
  measure();
}

function sentence(found) {
  return [
    h(`span.sign.tone-${found.tone}`, {}, icon(found.tone, 22), h("span.word", {}, found.word)),
    h("p", {}, h("strong", {}, found.text), found.detail ? h("span", { title: found.detail }, " ", prose(found.detail)) : null),
  ];
}

/** Told to a screen reader when the meaning changes, never for a number that moved. */
function announce(found) {
  const key = `${found.key}${lostSince === null}`;
  if (announced === key) return;
  announced = key;
  at("announcer").textContent = lostSince === null ? `${found.word}: ${found.text}. ${found.detail}` : "The connection to headrace is lost; retrying.";
}

function banners() {
  const found = [];
  if (lostSince !== null) {
    found.push(h("div.banner.tone-bad", { key: "lost" }, icon("bad", 18),
      h("p", {}, h("strong", {}, `Connection to headrace lost since ${clock(lostSince)} UTC, retrying. `),
        state ? `What you see is ${short(now() - state.at_ms)} old. ` : "",
        "If it stays away: ", h("code", {}, "headrace status"), " tells whether it runs, ", h("code", {}, "headrace up"), " starts it.")));
  } else if (state && now() - state.at_ms > OLD_MS) {
    found.push(h("div.banner.tone-warn", { key: "old" }, icon("warn", 18),
      h("p", {}, `This state was read ${ago(now() - state.at_ms)}: reading it takes long now, as when the machine is busy or the stream does not answer.`)));
  }
  return found;
}

function tools() {
  return [
    h("span.clock", { title: "The time of what you see, UTC" }, state ? `${clock(now())} UTC` : ""),
    h("button.quiet", { type: "button", id: "theme", "aria-label": `Theme: ${theme()}. Change it`, title: `Theme: ${theme()}`, on: { click: changeTheme } }, icon("theme", 18)),
    h("button.quiet", { type: "button", id: "keys", "aria-label": "Keyboard shortcuts", title: "Keyboard shortcuts (?)", on: { click: showHelp } }, icon("keys", 18)),
  ];
}

function footer() {
  return [
    h("span", {}, lostSince === null ? `Live, state of ${clock(state.at_ms)} UTC` : "Not connected"),
    h("span", {}, "All times UTC"),
    h("a", { href: "/api/state" }, "This state as JSON"),
    h("span", {}, "In a terminal: ", h("code", {}, "headrace top")),
  ];
}

function changeTheme() {
  nextTheme();
  redraw();
}

function go(hash) {
  if (location.hash !== hash) location.hash = hash;
}

function cards() {
  const order = [...state.feeds].filter((feed) => feed.condition_now !== "never started");
  return order.sort((a, b) => rank(a) - rank(b) || a.feed.localeCompare(b.feed));
}

function open(number) {
  const feed = state && cards()[number - 1];
  if (feed) go(`#/feed/${encodeURIComponent(feed.feed)}`);
}

function step(by) {
  if (!state) return;
  const names = state.feeds.map((feed) => feed.feed);
  const here = names.indexOf(route().name);
  const name = names[here < 0 ? (by > 0 ? 0 : names.length - 1) : here + by];
  if (name) go(`#/feed/${encodeURIComponent(name)}`);
}

addEventListener("hashchange", () => {
  draw();
  scrollTo(0, 0);
  document.querySelector("main h1")?.focus({ preventScroll: true });
});
at("skip").addEventListener("click", (event) => {
  event.preventDefault();
  at("main").focus();
});
document.addEventListener("headrace-redraw", redraw);
listen({ open, step, home: () => go("#/"), theme: changeTheme });
follow({
  onState: (fresh) => {
    state = fresh;
    receivedAt = performance.now();
    remember(fresh);
    redraw();
  },
  onLink: ({ since }) => {
    lostSince = since;
    if (since === null) forget();
    redraw();
  },
});
setInterval(redraw, 1_000);
draw();
