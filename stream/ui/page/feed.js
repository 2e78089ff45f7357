// One feed: shards, freshness, history, commits, rejects, gaps, days, cost, commands.

import { bullet, lineChart } from "./charts.js";
import { calendar } from "./calendar.js";
import { command } from "./copy.js";
import { h, prose } from "./dom.js";
import { ago, byteRate, compact, count, duration, moment, plural, UNKNOWN, upper, usd, visible } from "./format.js";
import { historyOf } from "./history.js";
import { chip, icon } from "./icons.js";
import { change } from "./overview.js";
import { panel, table } from "./panels.js";

const SPANS = [["10 min", 600_000], ["1 h", 3_600_000], ["6 h", 21_600_000]];
let span = SPANS[0][1];

/** The view of a feed at `now`; null if the state has no such feed. */
export function feedView(state, name, now) {
  const feed = state.feeds.find((each) => each.feed === name);
  if (!feed) return missing(state, name);
  return [
    h("nav.crumbs", { "aria-label": "Where you are", key: "crumbs" }, h("a", { href: "#/" }, icon("back", 16), "All feeds"), neighbours(state, feed)),
    h("header.title", { key: "title" },
      h("div.line", {}, h("h1", { tabindex: -1 }, feed.feed), chip(feed.condition_now)),
      feed.why ? h("p.why", {}, prose(upper(feed.why))) : null,
      h("p.doc", {}, feed.doc),
      h("ul.plain.inline.meta", {},
        h("li", {}, `Market ${feed.market.is_open ? "open" : "closed"} (${feed.market.calendar}), ${change(feed.market, now)}`),
        h("li", {}, feed.pid === null ? "No dataflow process" : `Dataflow is process ${feed.pid}`),
        h("li", {}, feed.pulse_age_ms === null ? "No pulse" : `Last pulse ${ago(feed.pulse_age_ms)}`))),
    h("div.grid", { key: "grid" },
      h("div.stack", {}, throughput(feed, now), freshness(feed), commits(feed, now), rejects(feed)),
      h("div.stack", {}, lag(feed, now), shards(feed), days(feed, now), gaps(feed), commands(feed), cost(feed))),
  ];
}

function missing(state, name) {
  return [h("h1", { tabindex: -1 }, "No such feed"), h("p", {}, `There is no feed "${name}". `, h("a", { href: "#/" }, "All feeds"))];
}

function neighbours(state, feed) {
  const names = state.feeds.map((each) => each.feed);
  const at = names.indexOf(feed.feed);
  const link = (name, sign, title) => (name ? h("a", { href: `#/feed/${encodeURIComponent(name)}`, "aria-label": `${title} feed: ${name}`, class: sign }, sign === "back" ? icon(sign, 16) : null, name, sign === "next" ? icon(sign, 16) : null) : null);
  return h("span.neighbours", {}, link(names[at - 1], "back", "Previous"), link(names[at + 1], "next", "Next"));
}

function spans() {
  return h("div.choice", { role: "group", "aria-label": "Time shown" }, SPANS.map(([text, ms]) =>
    h("button", {
      type: "button", key: text, "aria-pressed": ms === span ? "true" : "false",
      on: { click: () => { span = ms; document.dispatchEvent(new CustomEvent("headrace-redraw")); } },
    }, text)));
}

function throughput(feed, now) {
  const { records_per_s: records, messages_per_s: messages, bytes_per_s: bytes } = feed.throughput;
  return panel("throughput", "Throughput", [
    h("p.big", {}, h("strong", {}, `${compact(records)} records/s`), h("span", {}, `${compact(messages)} messages/s, ${byteRate(bytes)}`)),
    lineChart({ id: `throughput-${feed.feed}`, label: "Records per second", samples: historyOf(feed.feed), value: (sample) => sample.records_per_s, format: (value) => compact(value), now, span, minTop: 1 }),
  ], spans());
}

function lag(feed, now) {
  const known = feed.shards.map((shard) => shard.behind_ms).filter((ms) => ms !== null);
  return panel("lag", "Lag", [
    h("p.big", {}, h("strong", {}, known.length ? duration(Math.max(...known)) : UNKNOWN), h("span", {}, "behind, the slowest shard")),
    lineChart({ id: `lag-${feed.feed}`, label: "Behind", samples: historyOf(feed.feed), value: (sample) => sample.behind_ms, format: (ms) => duration(ms).replace(".0 s", " s"), now, span, minTop: 1000 }),
  ]);
}

function freshness(feed) {
  const { target_ms: target } = feed.freshness;
  const stages = [["Bronze", feed.freshness.bronze_ms, "raw, as received"], ["Silver", feed.freshness.silver_ms, "typed, what queries see"], ["Bars", feed.freshness.bars_ms, "one-minute bars"]]
    .filter(([stage, ms]) => ms !== null || stage !== "Bars");
  return panel("freshness", "Freshness", [
    h("p.note", {}, `How old the newest queryable data is; the contract asks for ${duration(target)} at most.`),
    table("Freshness per stage", [["Stage"], ["Age", "num"], ["Against target", "fill"], ["Verdict"]], stages.map(([stage, ms, meaning]) => {
      const isLate = ms !== null && ms > target;
      const verdict = ms === null ? ["off", "no data yet"] : isLate ? ["warn", "late"] : ["ok", "fresh"];
      return { key: stage, cells: [h("span", { title: meaning }, stage), duration(ms), bullet(ms, target, verdict[0]), h(`span.chip.tone-${verdict[0]}`, {}, icon(verdict[0], 14), verdict[1])] };
    })),
    tables(feed.tables),
  ]);
}

function tables(found) {
  const parts = [
    found.rows === null || found.rows === undefined ? null : plural(found.rows, "row"),
    found.snapshots === null ? null : plural(found.snapshots, "snapshot"),
    found.files === null || found.files === undefined ? null : plural(found.files, "file"),
    found.small_files === null ? null : plural(found.small_files, "small file"),
  ].filter(Boolean);
  return h("p.note", {}, parts.length ? `The table holds ${parts.join(", ")}.` : "The table does not exist yet.");
}

function shards(feed) {
  const most = Math.max(1, ...feed.shards.map((shard) => shard.behind_ms ?? 0));
  const rows = feed.shards.map((shard) => ({
    key: shard.shard,
    cells: [
      h("code", {}, shard.shard.replace(/^shardId-0*(?=\d)/, "")),
      chip(shard.is_ended ? "ended" : shard.state),
      duration(shard.behind_ms),
      h("span.meter", { "aria-hidden": "true" }, h("span.fill", { style: { width: `${((shard.behind_ms ?? 0) / Math.max(most, feed.freshness.target_ms)) * 100}%` } })),
      shard.backlog === null ? UNKNOWN : `${count(shard.backlog)}${shard.is_capped ? "+" : ""}`,
      shard.records_per_s === null || shard.records_per_s === undefined ? UNKNOWN : `${compact(shard.records_per_s)}/s`,
      shard.committed === null ? UNKNOWN : h("code.position", { title: `Committed position ${shard.committed}` }, `…${shard.committed.slice(-8)}`),
    ],
  }));
  return panel("shards", "Shards", rows.length
    ? table(`Shards of ${feed.feed}`, [["Shard"], ["State"], ["Behind", "num"], ["", "fill"], ["Waiting", "num"], ["Records", "num"], ["Committed", "num"]], rows)
    : h("p.empty", {}, "No shard is known: the stream is not there, or not reachable now."));
}

function commits(feed, now) {
  const rows = feed.commits.map((commit) => ({
    key: commit.number,
    cells: [
      h("span", { title: commit.entry }, `#${count(commit.number)}`), commit.kind,
      h("span", { title: `${moment(commit.committed_ms)} UTC` }, ago(now - commit.committed_ms)),
      count(commit.slices), count(commit.records), count(commit.silver_rows), count(commit.duplicates), count(commit.rejected),
    ],
  }));
  return panel("commits", "Last commits", rows.length
    ? table(`Last commits of ${feed.feed}, newest first`, [["Commit"], ["Kind"], ["When", "num"], ["Slices", "num"], ["Records", "num"], ["Silver rows", "num"], ["Duplicates", "num"], ["Rejected", "num"]], rows)
    : h("p.empty", {}, "Nothing was committed yet. The first records become a commit within one epoch (10 s unless set)."));
}

function days(feed, now) {
  return panel("days", "Days", calendar(feed.feed, feed.days, now));
}

function rejects(feed) {
  const total = feed.rejects.reduce((sum, reject) => sum + reject.count, 0);
  return panel("rejects", "Rejects", feed.rejects.length
    ? [
        h("p.note", {}, `${plural(total, "message")} in quarantine with all bytes. A decoder fix lands them with the redrive command below.`),
        feed.rejects.map((reject) => h("details.reject", { key: reject.reason },
          h("summary", {}, h("code", {}, reject.reason), h("strong", {}, count(reject.count)), h("span.meaning", {}, reject.meaning)),
          reject.samples.length ? reject.samples.map((sample) => h("figure.sample", { key: `${sample.slice_id}:${sample.line_no}` },
            h("figcaption", {}, sample.detail, h("span", {}, ` line ${sample.line_no} of ${sample.slice_id}`)),
            h("pre", { tabindex: 0 }, visible(sample.raw)))) : h("p.empty", {}, reject.withheld || "No sample could be read now."))),
      ]
    : h("p.empty", {}, "No message was rejected."));
}

function gaps(feed) {
  const rows = feed.gaps.map((gap) => ({
    key: `${gap.commit}${gap.shard}${gap.after}`,
    cells: [h("code", {}, gap.shard), gap.reason, `#${count(gap.commit)}`, h("code.position", {}, gap.after ?? "the start"), h("code.position", {}, gap.first_kept ?? "nothing")],
  }));
  return panel("gaps", "Gaps", rows.length
    ? [h("p.note", {}, "Records that the stream no longer held when they were to be read. They are lost unless their source can send them again."),
       table(`Gaps of ${feed.feed}`, [["Shard"], ["Reason"], ["Commit", "num"], ["After"], ["First kept"]], rows)]
    : h("p.empty", {}, "No gap: every record since the start was read."));
}

function cost(feed) {
  const { usd_per_hour: hour, usd_per_million: million, parts } = feed.cost;
  const found = Object.entries(parts ?? {}).sort((a, b) => b[1] - a[1]);
  const most = Math.max(1e-12, ...found.map(([, value]) => value));
  return panel("cost", "Cost", hour === null && million === null
    ? h("p.empty", {}, "No estimate yet: it needs some throughput.")
    : [
        h("p.big", {}, h("strong", {}, `${usd(hour)} an hour`), h("span", {}, `${usd(million)} per million records`)),
        table("Cost per hour by part", [["Part"], ["Per hour", "num"], ["", "fill"]], found.map(([part, value]) => ({
          key: part, cells: [part, usd(value), h("span.meter", { "aria-hidden": "true" }, h("span.fill", { style: { width: `${(value / most) * 100}%` } }))],
        }))),
        h("p.note", {}, "An estimate of what AWS would ask, at the prices of the settings."),
      ]);
}

function commands(feed) {
  const { replay, redrive, prove } = feed.commands;
  return panel("commands", "Commands", [
    h("h3", {}, "Replay"), h("p.note", {}, "Read kept records again through the same flow; it shows its plan first."), command(replay, `replay ${feed.feed}`),
    h("h3", {}, "Redrive"), h("p.note", {}, "Decode quarantined messages again and land what is valid now."), command(redrive, `redrive ${feed.feed}`),
    h("h3", {}, "Prove"), h("p.note", {}, "Reconcile every published record with the table."), command(prove, `prove ${feed.feed}`),
  ]);
}
