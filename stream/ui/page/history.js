// What each feed's lag, freshness and throughput were: asked once, then grown from live states.

import { behind } from "./verdict.js";

const KEEP = 7_200;
const samples = new Map();
const asked = new Set();

/** Samples of a feed, oldest first: {at_ms, behind_ms, freshness_ms, records_per_s}. */
export function historyOf(feed) {
  return samples.get(feed) ?? [];
}

/** Add one state of every feed. */
export function remember(state) {
  for (const feed of state.feeds) {
    add(feed.feed, {
      at_ms: state.at_ms,
      behind_ms: behind(feed),
      freshness_ms: feed.freshness.silver_ms,
      records_per_s: feed.throughput.records_per_s,
    });
    if (!asked.has(feed.feed)) ask(feed.feed);
  }
}

/** Ask for the past again, as after a lost connection. */
export function forget() {
  asked.clear();
}

function add(feed, sample) {
  const known = samples.get(feed) ?? [];
  if (known.length && known.at(-1).at_ms >= sample.at_ms) return;
  known.push(sample);
  if (known.length > KEEP) known.splice(0, known.length - KEEP);
  samples.set(feed, known);
}

async function ask(feed) {
  asked.add(feed);
  try {
    const answer = await fetch(`/api/history?feed=${encodeURIComponent(feed)}`);
    if (!answer.ok) return;
    const past = (await answer.json()).samples;
    const now = historyOf(feed);
    const first = now[0]?.at_ms ?? Infinity;
    const last = now.at(-1)?.at_ms ?? -Infinity;
    const older = past.filter((sample) => sample.at_ms < first);
    const between = past.filter((sample) => sample.at_ms > first && sample.at_ms < last);
    const all = [...older, ...now, ...between].sort((a, b) => a.at_ms - b.at_ms);
    samples.set(feed, all.slice(-KEEP));
  } catch {
    asked.delete(feed); // the connection broke: asked again with the next state
  }
}
