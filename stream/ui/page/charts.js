// Charts as SVG: a sparkline, a line chart with axes and a cursor, a bar against a target.

import { h } from "./dom.js";
import { clock } from "./format.js";

const widths = new Map();
const observer = new ResizeObserver((entries) => {
  for (const entry of entries) widths.set(entry.target.dataset.measure, entry.contentRect.width);
  document.dispatchEvent(new CustomEvent("headrace-redraw"));
});
const observed = new WeakSet();

/** Follow the width of new chart boxes; called after each drawing. */
export function measure() {
  for (const box of document.querySelectorAll("[data-measure]")) {
    if (observed.has(box)) continue;
    observed.add(box);
    observer.observe(box);
  }
}

/** Samples thinned to about `most` points; of each run the one with the highest value stays. */
export function thin(samples, value, most) {
  if (samples.length <= most) return samples;
  const step = samples.length / most;
  const kept = [];
  for (let at = 0; at < most; at += 1) {
    const run = samples.slice(Math.floor(at * step), Math.floor((at + 1) * step));
    if (run.length) kept.push(run.reduce((a, b) => ((value(b) ?? -1) > (value(a) ?? -1) ? b : a)));
  }
  return kept;
}

/** An SVG path through points; it breaks where a value is not known or time has a hole. */
function path(points, hole) {
  let text = "";
  let last = null;
  for (const [x, y, at] of points) {
    if (y === null) {
      last = null;
      continue;
    }
    text += `${last === null || at - last > hole ? "M" : "L"}${x.toFixed(1)} ${y.toFixed(1)}`;
    last = at;
  }
  return text;
}

/** A line without axes, of ten minutes or what is known of them. Decoration beside a number. */
export function sparkline(samples, value, now, { width = 160, height = 36 } = {}) {
  const span = Math.min(600_000, Math.max(60_000, now - (samples[0]?.at_ms ?? now)));
  const shown = thin(samples.filter((sample) => sample.at_ms > now - span), value, 120);
  const top = Math.max(1e-9, ...shown.map((sample) => value(sample) ?? 0));
  const points = shown.map((sample) => {
    const y = value(sample);
    const x = width - ((now - sample.at_ms) / span) * width;
    return [x, y === null ? null : height - 2 - (y / top) * (height - 5), sample.at_ms];
  });
  const line = path(points, 30_000);
  const known = points.filter((point) => point[1] !== null);
  const area = known.length > 1 ? `M${known[0][0].toFixed(1)} ${height}${known.map((p) => `L${p[0].toFixed(1)} ${p[1].toFixed(1)}`).join("")}L${known.at(-1)[0].toFixed(1)} ${height}Z` : "";
  return h("svg.spark", { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", "aria-hidden": "true" },
    h("path.area", { d: area }),
    h("path.line", { d: line }),
    h("path.base", { d: `M0 ${height - 0.5}H${width}` }));
}

const STEPS = [1, 2, 2.5, 5, 10];

/** A round number at least as large, and how far apart its grid lines are. */
function nice(top, lines = 3) {
  const raw = Math.max(top, 1e-6) / lines;
  const size = 10 ** Math.floor(Math.log10(raw));
  const step = STEPS.map((factor) => factor * size).find((candidate) => candidate >= raw * 0.999);
  return { step, top: step * Math.ceil(Math.max(top, step) / step - 1e-9) };
}

const TICKS = [60, 120, 300, 600, 900, 1800, 3600, 7200].map((seconds) => seconds * 1000);
const cursors = new Map();

/**
 * One series over time. `target`: a value to draw as a dashed line. The cursor follows the mouse
 * and, when the chart has the focus, the arrow keys; what it points at is told in words below.
 */
export function lineChart({ id, label, samples, value, format, now, span, target = null, minTop = 0 }) {
  const width = Math.max(240, widths.get(id) ?? 640);
  const height = 168;
  const [left, right, top, bottom] = [58, 10, 10, 22];
  const shown = thin(samples.filter((sample) => sample.at_ms > now - span), value, Math.floor(width / 2));
  const values = shown.map(value).filter((each) => each !== null);
  const scale = nice(Math.max(minTop, target ?? 0, ...values) * 1.04);
  const x = (at) => left + ((at - now + span) / span) * (width - left - right);
  const y = (each) => height - bottom - (each / scale.top) * (height - top - bottom);
  const hole = Math.max(30_000, span / 60);
  const known = shown.filter((sample) => value(sample) !== null);
  const line = path(shown.map((sample) => [x(sample.at_ms), value(sample) === null ? null : y(value(sample)), sample.at_ms]), hole);
  const grid = [];
  for (let at = 0; at <= scale.top + 1e-9; at += scale.step) grid.push(at);
  const picked = pick(known, cursors.get(id), now);
  const move = (sample) => {
    if (sample) cursors.set(id, now - sample.at_ms);
    else cursors.delete(id);
    document.dispatchEvent(new CustomEvent("headrace-redraw"));
  };
  const summary = known.length
    ? `${label}: now ${format(value(known.at(-1)))}, highest ${format(Math.max(...values))}`
    : `${label}: nothing was measured in this time`;
  return h("div.chart", { "data-measure": id, key: id },
    h("svg", {
      width, height, viewBox: `0 0 ${width} ${height}`, role: "img", tabindex: 0, "aria-label": `${summary}. Arrow keys read single values.`,
      on: {
        pointermove: (event) => move(nearest(known, event, x)),
        pointerleave: () => move(null),
        blur: () => move(null),
        keydown: (event) => step(event, known, picked, move),
      },
    },
    grid.map((at) => h("path.grid", { d: `M${left} ${y(at).toFixed(1)}H${width - right}` })),
    grid.map((at) => h("text.tick.end", { x: left - 8, y: y(at) + 4 }, format(at))),
    times(now, span).map((at) => h("text.tick.mid", { x: x(at).toFixed(1), y: height - 5 }, clock(at).slice(0, 5))),
    target === null ? null : h("path.target", { d: `M${left} ${y(target).toFixed(1)}H${width - right}` }),
    h("path.line", { d: line }),
    picked ? h("path.cursor", { d: `M${x(picked.at_ms).toFixed(1)} ${top}V${height - bottom}` }) : null,
    picked ? h("circle.dot", { cx: x(picked.at_ms).toFixed(1), cy: y(value(picked)).toFixed(1), r: 4 }) : null),
    h("p.readout", {}, picked ? `${clock(picked.at_ms)} UTC  ${format(value(picked))}` : summary));
}

function times(now, span) {
  const step = TICKS.find((each) => span / each <= 6) ?? TICKS.at(-1);
  const found = [];
  for (let at = Math.ceil((now - span * 0.97) / step) * step; at < now - span * 0.02; at += step) found.push(at);
  return found;
}

function pick(known, agoMs, now) {
  if (agoMs === undefined || !known.length) return null;
  const wanted = now - agoMs;
  return known.reduce((a, b) => (Math.abs(b.at_ms - wanted) < Math.abs(a.at_ms - wanted) ? b : a));
}

function nearest(known, event, x) {
  if (!known.length) return null;
  const box = event.currentTarget?.getBoundingClientRect?.() ?? event.target.closest("svg").getBoundingClientRect();
  const at = event.clientX - box.left;
  return known.reduce((a, b) => (Math.abs(x(b.at_ms) - at) < Math.abs(x(a.at_ms) - at) ? b : a));
}

function step(event, known, picked, move) {
  const by = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity, Escape: null }[event.key];
  if (by === undefined || !known.length) return;
  event.preventDefault();
  event.stopPropagation();
  if (by === null) return move(null);
  const at = picked ? known.indexOf(picked) + by : known.length - 1;
  move(known[Math.min(known.length - 1, Math.max(0, at))]);
}

/** A bar for `value` of `target`; beyond it the target is a mark inside the bar. */
export function bullet(value, target, level) {
  const scale = Math.max(target * 1.25, (value ?? 0) * 1.02, 1);
  return h("span.bullet", { "aria-hidden": "true" },
    h(`span.fill.tone-${level}`, { style: { width: `${value === null ? 0 : Math.max(0.8, (value / scale) * 100)}%` } }),
    h("span.mark", { style: { left: `${(target / scale) * 100}%` } }));
}
