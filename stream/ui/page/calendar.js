// The condition of each day as a calendar: weeks as columns, a sign per day, a sentence for one.

import { h } from "./dom.js";
import { count, MONTHS, plural, WEEKDAYS } from "./format.js";
import { icon, tone } from "./icons.js";

const DAY_MS = 86_400_000;
const LEAST_WEEKS = 13;
const chosen = new Map();

const say = (day) =>
  `${spell(day.day)}: ${day.condition}${day.rows === null ? "" : `, ${plural(day.rows, "row")}`}${day.why ? `. ${day.why}` : ""}`;

const utc = (day) => Date.parse(`${day}T00:00:00Z`);

function spell(day) {
  const at = new Date(utc(day));
  return `${WEEKDAYS[(at.getUTCDay() + 6) % 7]} ${at.getUTCDate()} ${MONTHS[at.getUTCMonth()]} ${at.getUTCFullYear()}`;
}

/** The calendar of a feed's days, oldest first; one day can be chosen with mouse or arrow keys. */
export function calendar(feed, days, nowMs) {
  if (!days.length) return h("p.empty", {}, "No day has data yet. The first commit brings the first day.");
  const byDay = new Map(days.map((day) => [day.day, day]));
  const weeks = weeksOf(days, nowMs);
  const current = byDay.has(chosen.get(feed)) ? chosen.get(feed) : days.at(-1).day;
  const choose = (day) => {
    chosen.set(feed, day);
    document.dispatchEvent(new CustomEvent("headrace-redraw"));
  };
  return [
    h("div.calendar", {},
      h("table", { "aria-label": "Condition per day; weeks are columns" },
        h("thead", {}, h("tr", {}, h("th.vh", { scope: "col" }, "Day"), weeks.map((week, at) => h("th", { scope: "col", key: week }, monthOf(week, weeks[at - 1]))))),
        h("tbody", {}, WEEKDAYS.map((name, weekday) =>
          h("tr", {},
            h("th", { scope: "row" }, name),
            weeks.map((week) => cell(byDay.get(iso(week + weekday * DAY_MS)), week + weekday * DAY_MS, current, choose, byDay, nowMs))))))),
    h("p.readout", { id: `day-${feed}` }, say(byDay.get(current))),
    h("ul.legend", {}, Object.entries(tally(days)).map(([condition, number]) =>
      h("li", { key: condition }, h(`span.day.tone-${tone(condition)}`, {}, icon(tone(condition), 12)), `${condition} ${count(number)}`))),
    exceptions(days),
  ];
}

function cell(day, at, current, choose, byDay, today) {
  if (!day) return h("td", { key: at }, at > today ? null : h("span.day.none", {}));
  const kind = tone(day.condition);
  return h("td", { key: at },
    h(`button.day.tone-${kind}`, {
      type: "button", "aria-label": say(day), "aria-pressed": day.day === current ? "true" : "false",
      tabindex: day.day === current ? 0 : -1, "data-day": day.day,
      on: { click: () => choose(day.day), focus: () => choose(day.day), keydown: (event) => walk(event, at, byDay) },
    }, icon(kind, 12)));
}

function walk(event, at, byDay) {
  const by = { ArrowLeft: -7, ArrowRight: 7, ArrowUp: -1, ArrowDown: 1 }[event.key];
  if (!by) return;
  event.preventDefault();
  for (let next = at + by * DAY_MS, tries = 0; tries < 60; next += by * DAY_MS, tries += 1) {
    if (!byDay.has(iso(next))) continue;
    const button = event.target.closest("table").querySelector(`[data-day="${iso(next)}"]`);
    button?.focus();
    return;
  }
}

function exceptions(days) {
  const found = days.filter((day) => day.condition !== "available").reverse();
  return h("details", {},
    h("summary", {}, found.length ? `${plural(found.length, "day")} not simply available, as a list` : "Every day here is available"),
    found.length
      ? h("ul.plain", {}, found.map((day) => h("li", { key: day.day }, say(day))))
      : h("p", {}, `${spell(days[0].day)} to ${spell(days.at(-1).day)}: all rows of all days can be queried.`));
}

const iso = (ms) => new Date(ms).toISOString().slice(0, 10);

function monday(ms) {
  const at = Math.floor(ms / DAY_MS) * DAY_MS;
  return at - ((new Date(at).getUTCDay() + 6) % 7) * DAY_MS;
}

function weeksOf(days, nowMs) {
  const last = monday(Math.max(utc(days.at(-1).day), nowMs));
  const first = Math.min(monday(utc(days[0].day)), last - (LEAST_WEEKS - 1) * 7 * DAY_MS);
  const found = [];
  for (let week = Math.max(first, last - 52 * 7 * DAY_MS); week <= last; week += 7 * DAY_MS) found.push(week);
  return found;
}

function monthOf(week, before) {
  const month = new Date(week + 6 * DAY_MS).getUTCMonth();
  const isNew = before === undefined || new Date(before + 6 * DAY_MS).getUTCMonth() !== month;
  return isNew ? MONTHS[month] : "";
}

function tally(days) {
  const found = {};
  for (const day of days) found[day.condition] = (found[day.condition] ?? 0) + 1;
  return found;
}
