// The state of everything in one sentence: what a person who was just woken reads first.

import { plural, duration } from "./format.js";

/** Worst first. Each condition of a feed (see stream.watch.state) with the tone of the verdict. */
const RANKS = [
  ["dead", "bad"], ["stalled", "bad"], ["silent", "warn"], ["lagging", "warn"],
  ["live", "ok"], ["idle", "ok"], ["stopped", "off"], ["never started", "off"],
];
const WORDS = { ok: "Well", warn: "Look", bad: "Act", off: "Off" };

export const rank = (feed) => {
  const at = RANKS.findIndex(([name]) => name === feed.condition_now);
  return at < 0 ? RANKS.length : at;
};

/** Feeds that need a person, worst first. */
export function troubled(state) {
  const bad = state.feeds.filter((feed) => rank(feed) < 4);
  return bad.sort((a, b) => rank(a) - rank(b) || a.feed.localeCompare(b.feed));
}

/** {tone, word, text, detail, key}: `key` changes when the meaning does, not with each second. */
export function verdict(state) {
  const { platform, feeds } = state;
  const bad = troubled(state);
  const key = feeds.map((feed) => `${feed.feed}=${feed.condition_now}`).join() + platform.phase;
  const say = (tone, text, detail = "") => ({ tone, word: WORDS[tone], text, detail, key });
  if (platform.phase === "failed") return say("bad", "headrace did not start", platform.error);
  if (platform.phase === "stopped") {
    return say("off", "headrace is not running", "`headrace up` starts it; its data is kept.");
  }
  if (platform.phase === "starting") return say("off", "headrace is starting");
  if (platform.phase === "stopping") return say("off", "headrace is stopping");
  if (bad.length) {
    const [worst, ...rest] = bad;
    const others = rest.length ? ` Also ${rest.map((feed) => `${feed.feed} (${feed.condition_now})`).join(", ")}.` : "";
    return say(RANKS[rank(worst)][1], `${worst.feed}: ${worst.condition_now}`, `${worst.why}${others}`);
  }
  const down = platform.processes.filter((process) => process.state !== "running");
  if (down.length) {
    return say("bad", `${down[0].name}: ${down[0].state}`, down[0].last_line);
  }
  const live = feeds.filter((feed) => feed.condition_now === "live");
  const idle = feeds.filter((feed) => feed.condition_now === "idle");
  if (!live.length && !idle.length) return say("off", "No feed runs", "`headrace up` starts them all.");
  if (!idle.length) return say("ok", live.length === 1 ? `${live[0].feed} is live` : `All ${live.length} feeds live`, slowest(live));
  if (!live.length) return say("ok", `${plural(idle.length, "feed")} ready, nothing arrives now`, "No data is due: " + (idle[0].why || "the markets are closed."));
  return say("ok", `${live.length} live, ${idle.length} idle`, slowest(live));
}

function slowest(feeds) {
  const known = feeds.map((feed) => ({ feed: feed.feed, ms: behind(feed) })).filter(({ ms }) => ms !== null);
  if (!known.length) return "";
  const worst = known.reduce((a, b) => (b.ms > a.ms ? b : a));
  return worst.ms < 1000 ? "No record waits to be read." : `Furthest behind: ${worst.feed}, ${duration(worst.ms)}.`;
}

/** Milliseconds that the slowest shard of a feed lies behind; null if none is known. */
export function behind(feed) {
  const known = feed.shards.map((shard) => shard.behind_ms).filter((ms) => ms !== null);
  return known.length ? Math.max(...known) : null;
}

/** Records that wait in all shards: {value, isCapped}; null if not known. */
export function backlog(feed) {
  const known = feed.shards.filter((shard) => shard.backlog !== null);
  if (!known.length) return null;
  return {
    value: known.reduce((sum, shard) => sum + shard.backlog, 0),
    isCapped: known.some((shard) => shard.is_capped),
  };
}
