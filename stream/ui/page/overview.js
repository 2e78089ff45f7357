// All feeds at a glance: figures, cards with sparklines, processes, Prefect runs.

import { command } from "./copy.js";
import { h, prose, safeUrl } from "./dom.js";
import { sparkline } from "./charts.js";
import { ago, byteRate, compact, count, duration, moment, plural, short, UNKNOWN, upper, usd } from "./format.js";
import { historyOf } from "./history.js";
import { chip, icon } from "./icons.js";
import { panel, table } from "./panels.js";
import { backlog, behind, rank } from "./verdict.js";

/** The overview for one state at `now` (the state's clock, ticking on). */
export function overview(state, now) {
  const started = state.feeds.filter((feed) => feed.condition_now !== "never started").sort((a, b) => rank(a) - rank(b) || a.feed.localeCompare(b.feed));
  const waiting = state.feeds.filter((feed) => feed.condition_now === "never started");
  return [
    h("h1.vh", { tabindex: -1 }, "All feeds"),
    problems(state),
    started.length ? totals(state, started) : beginning(state),
    started.length ? h("section", { "aria-labelledby": "feeds-title", key: "feeds" },
      h("h2", { id: "feeds-title" }, "Feeds"),
      h("ul.cards", {}, started.map((feed) => card(feed, now)))) : null,
    waiting.length ? unstarted(waiting) : null,
    h("div.columns", { key: "columns" }, processes(state.platform, now), prefect(state.prefect, now)),
  ];
}

/** What could not be read or needs a person; nothing if all is well. */
function problems(state) {
  // What the bar and the cards say already is not said a third time.
  const said = new Set(["the platform is not running", ...state.feeds.map((feed) => `${feed.feed} is ${feed.condition_now}`)]);
  const found = state.problems.filter((problem) => !said.has(problem.what));
  if (!found.length) return null;
  return h("section.problems", { "aria-label": "Problems", key: "problems" }, h("ul.plain", {}, found.map((problem) =>
    h("li", { key: `${problem.what}${problem.where}` }, icon("warn", 18),
      h("div", {}, h("strong", {}, upper(problem.what)), h("span.where", {}, ` ${problem.where}`), h("p", {}, prose(problem.advice)))))));
}

function beginning(state) {
  const isUp = state.platform.phase === "running";
  return h("section.beginning", { key: "beginning" },
    h("h2", {}, isUp ? "Nothing has arrived yet" : "Nothing runs here yet"),
    h("p", {}, isUp ? "The platform runs and waits for its first record. Simulated data starts the picture:" : "Three commands in a terminal, and this page fills itself:"),
    isUp ? null : command("headrace up", "start the platform"),
    command("headrace produce trades --seconds 60", "publish simulated trades"),
    command("headrace query \"SELECT count(*) FROM trades\"", "count what landed"));
}

function totals(state, feeds) {
  const sum = (values) => (values.every((value) => value === null) ? null : values.reduce((a, b) => a + (b ?? 0), 0));
  const lags = feeds.map(behind).filter((ms) => ms !== null);
  const late = feeds.filter((feed) => !feed.freshness.is_fresh && feed.freshness.silver_ms !== null);
  const rejected = sum(feeds.map((feed) => feed.rejects.reduce((a, reject) => a + reject.count, 0)));
  const gaps = sum(feeds.map((feed) => feed.gaps.length));
  const cost = sum(feeds.map((feed) => feed.cost.usd_per_hour));
  const figures = [
    ["Throughput", `${compact(sum(feeds.map((feed) => feed.throughput.records_per_s)))}/s`, byteRate(sum(feeds.map((feed) => feed.throughput.bytes_per_s)))],
    ["Furthest behind", lags.length ? duration(Math.max(...lags)) : UNKNOWN, "the slowest shard"],
    ["Fresh tables", `${feeds.length - late.length} of ${feeds.length}`, late.length ? `late: ${late.map((feed) => feed.feed).join(", ")}` : "within their targets"],
    ["Rejects", count(rejected), rejected ? "in quarantine" : "none in quarantine"],
    ["Gaps", count(gaps), gaps ? "records were lost" : "nothing was lost"],
    ["Cost", cost === null ? UNKNOWN : `${usd(cost)}/h`, "estimate at set prices"],
  ];
  return h("dl.totals", { key: "totals" }, figures.map(([name, value, note]) =>
    h("div", { key: name }, h("dt", {}, name), h("dd", {}, h("strong", {}, value), h("span", {}, note)))));
}

function card(feed, now) {
  const samples = historyOf(feed.feed);
  const wait = backlog(feed);
  const { silver_ms: fresh, target_ms: target } = feed.freshness;
  const rejected = feed.rejects.reduce((sum, reject) => sum + reject.count, 0);
  return h(`li.card`, { key: feed.feed, "data-feed": feed.feed, "data-condition": feed.condition_now },
    h("div.head", {}, h("h3", {}, h("a", { href: `#/feed/${encodeURIComponent(feed.feed)}` }, feed.feed)), chip(feed.condition_now)),
    h("p.why", { title: feed.why }, prose(upper(feed.why || feed.doc))),
    h("dl.measures", {},
      measure("Records", `${compact(feed.throughput.records_per_s)}/s`, sparkline(samples, (sample) => sample.records_per_s, now)),
      measure("Behind", duration(behind(feed)), sparkline(samples, (sample) => sample.behind_ms, now))),
    h("dl.facts", {},
      fact("Fresh", short(fresh), feed.freshness.is_fresh || fresh === null ? `of ${short(target)}` : `late: ${short(target)}`, fresh !== null && !feed.freshness.is_fresh),
      fact("Waiting", wait === null ? UNKNOWN : `${compact(wait.value)}${wait.isCapped ? "+" : ""}`, "records"),
      fact("Rejects", count(rejected), rejected ? "see why" : "none", rejected > 0),
      feed.gaps.length ? fact("Gaps", count(feed.gaps.length), "records lost", true) : fact("Market", feed.market.is_open ? "open" : "closed", feed.market.next_change_ms === null ? "24/7" : `for ${short(feed.market.next_change_ms - now)}`)));
}

const measure = (name, value, spark) => h("div", {}, h("dt", {}, name), h("dd", {}, h("strong", {}, value), spark));
const fact = (name, value, note, isOdd = false) =>
  h("div", {}, h("dt", {}, name), h("dd", {}, h("strong", {}, isOdd ? icon("warn", 13) : null, value), h("span", {}, note)));

/** "closes in 2 h", "opens in 14 h", "never closes". */
export function change(market, now) {
  if (market.next_change_ms === null) return market.is_open ? "around the clock" : "no opening known";
  return `${market.is_open ? "closes" : "opens"} in ${short(market.next_change_ms - now)}`;
}

function unstarted(feeds) {
  return h("section.unstarted", { "aria-labelledby": "unstarted-title", key: "unstarted" },
    h("h2", { id: "unstarted-title" }, `Never started (${feeds.length})`),
    h("ul.plain.inline", {}, feeds.map((feed) => h("li", { key: feed.feed }, h("a", { href: `#/feed/${encodeURIComponent(feed.feed)}` }, feed.feed)))));
}

function processes(platform, now) {
  const rows = platform.processes.map((process) => ({
    key: process.name,
    cells: [process.name, chip(process.state), process.pid ?? UNKNOWN, short(now - process.since_ms), count(process.restarts), process.state === "running" ? "" : process.last_line],
  }));
  return panel("processes", "Processes", [
    h("p.note", {}, platform.endpoint ? `Platform ${platform.phase}; AWS at ${platform.endpoint}` : `Platform ${platform.phase}`),
    rows.length
      ? table("Processes of the platform", [["Process"], ["State"], ["Pid", "num"], ["For", "num"], ["Restarts", "num"], ["Last words", "words"]], rows)
      : h("p.empty", {}, platform.phase === "account" ? "The feeds run in an AWS account; nothing runs on this machine." : prose("Nothing runs. `headrace up` starts an emulator and one dataflow per feed.")),
  ]);
}

function prefect(found, now) {
  const rows = found.runs.map((run) => ({
    key: `${run.flow}/${run.name}`,
    cells: [run.flow, outside(run.url, run.name), chip(run.state.toLowerCase()), run.start_ms === null ? UNKNOWN : h("span", { title: `${moment(run.start_ms)} UTC` }, ago(now - run.start_ms)), duration(run.duration_ms)],
  }));
  const empty = {
    off: ["Batch flows run without a server here. A local one with every deployment:", command("headrace up --with-prefect", "start with Prefect")],
    unreachable: prose(`The server at ${found.url} does not answer. \`headrace status\` tells whether it runs.`),
    up: "No flow has run yet.",
  }[found.state];
  return panel("prefect", "Prefect runs", rows.length
    ? [h("p.note", {}, `${plural(rows.length, "run")}, newest first; `, outside(found.url, "Prefect's own page")), table("Flow runs", [["Flow"], ["Run"], ["State"], ["Started", "num"], ["Took", "num"]], rows)]
    : h("div.empty", {}, empty));
}

function outside(url, text) {
  const href = safeUrl(url);
  return href ? h("a", { href, rel: "noreferrer noopener", target: "_blank" }, text, icon("link", 12)) : text;
}
