// Numbers, durations and times as people read them. null and undefined are "–": not known.

export const UNKNOWN = "–";
const COMPACT = ["", "k", "M", "G", "T"];

const isKnown = (value) => value !== null && value !== undefined && Number.isFinite(value);

/** 1234567 → "1,234,567". */
export function count(value) {
  return isKnown(value) ? Math.round(value).toLocaleString("en-US") : UNKNOWN;
}

/** 12345 → "12.3k": three digits at most. */
export function compact(value, unit = "") {
  if (!isKnown(value)) return UNKNOWN;
  let rest = value;
  let step = 0;
  while (Math.abs(rest) >= 999.5 && step < COMPACT.length - 1) {
    rest /= 1000;
    step += 1;
  }
  const size = Math.abs(rest);
  const digits = size >= 99.95 || size === 0 ? 0 : size >= 9.995 ? 1 : size < 0.01 ? 4 : 2;
  const text = rest.toFixed(digits).replace(/(\.\d*?)0+$/, "$1").replace(/\.$/, "");
  return `${text}${step || unit ? (unit ? " " : "") : ""}${COMPACT[step]}${unit}`;
}

/** Bytes a second. */
export const byteRate = (value) => (isKnown(value) ? `${compact(value, "B")}/s` : UNKNOWN);

/** Milliseconds → "350 ms", "4.2 s", "3 min 5 s", "2 h 10 min", "3 d 4 h". */
export function duration(ms) {
  if (!isKnown(ms)) return UNKNOWN;
  const abs = Math.max(0, ms);
  if (abs < 1) return "0 s";
  if (abs < 1000) return `${Math.round(abs)} ms`;
  const seconds = abs / 1000;
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  if (seconds < 59.5) return `${Math.round(seconds)} s`;
  return pair(seconds, [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]]);
}

function pair(seconds, units) {
  const first = units.findIndex(([, size]) => seconds >= size - size / 120);
  const [name, size] = units[first];
  const [smallName, smallSize] = units[first + 1] ?? [null, 1];
  const total = smallName ? Math.round(seconds / smallSize) * smallSize : seconds;
  const big = Math.floor(total / size);
  const small = smallName ? Math.round((total - big * size) / smallSize) : 0;
  return small && big < 100 ? `${big} ${name} ${small} ${smallName}` : `${big} ${name}`;
}

/** The same in one unit and without fractions: "4 s", "3 min", "2 h". */
export function short(ms) {
  if (!isKnown(ms) || ms < 1000) return duration(ms);
  const seconds = Math.round(ms / 1000);
  const [name, size] = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]].find(([, each]) => seconds >= each);
  return `${Math.floor(seconds / size)} ${name}`;
}

/** "12 s ago", "now". */
export function ago(ms) {
  if (!isKnown(ms)) return UNKNOWN;
  return ms < 1000 ? "now" : `${short(ms)} ago`;
}

/** An epoch time as "14:03:12" UTC. */
export const clock = (ms) => (isKnown(ms) ? new Date(ms).toISOString().slice(11, 19) : UNKNOWN);

/** An epoch time as "23 Nov 14:03:12" UTC. */
export function moment(ms) {
  if (!isKnown(ms)) return UNKNOWN;
  const at = new Date(ms);
  return `${at.getUTCDate()} ${MONTHS[at.getUTCMonth()]} ${clock(ms)}`;
}

export const MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(" ");
export const WEEKDAYS = "Mon Tue Wed Thu Fri Sat Sun".split(" ");

/** US dollars with as many digits as are needed to see something. */
export function usd(value) {
  if (!isKnown(value)) return UNKNOWN;
  if (value === 0) return "$0";
  if (value >= 0.0995) return `$${value.toFixed(2)}`;
  return value < 1e-6 ? "< $0.000001" : `$${Number(value.toPrecision(2)).toFixed(7).replace(/0+$/, "")}`;
}

/** A sentence that begins with a capital. */
export const upper = (text) => text.charAt(0).toUpperCase() + text.slice(1);

/** "1 shard", "2 shards". */
export const plural = (number, word, words = `${word}s`) => `${count(number)} ${number === 1 ? word : words}`;

/** A raw record with what cannot be seen made visible: control characters, direction marks. */
export function visible(text) {
  return text.replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]/g, (mark) => {
    const code = mark.codePointAt(0);
    return code < 0x20 ? String.fromCodePoint(0x2400 + code) : `\\u${code.toString(16).padStart(4, "0")}`;
  });
}
