/**
 * Numbers and times as people read them. Everything takes null for "not known" and says a dash.
 * @module
 */
const NONE = "–";

/** @param {number | null | undefined} value @param {number} [digits] 12,345 */
export function number(value, digits = 0) {
  if (!known(value)) return NONE;
  return value.toLocaleString("en", { maximumFractionDigits: digits });
}

/** @param {number | null | undefined} value 12.3k */
export function compact(value) {
  if (!known(value)) return NONE;
  return value.toLocaleString("en", { notation: "compact", maximumFractionDigits: 1 });
}

/** @param {number | null | undefined} value of 100 @param {number} [digits] */
export function percent(value, digits = 1) {
  return known(value) ? `${number(value, digits)} %` : NONE;
}

/** @param {number | null | undefined} ms 840 ms, 1.24 s, 2 min 5 s, 3 h 2 min, 4 d 1 h */
export function duration(ms) {
  if (!known(ms)) return NONE;
  if (ms < 1) return `${number(ms, 2)} ms`;
  if (ms < 1_000) return `${Math.round(ms)} ms`;
  if (ms < 10_000) return `${(ms / 1_000).toFixed(2)} s`;
  if (ms < 60_000) return `${(ms / 1_000).toFixed(1)} s`;
  const seconds = Math.round(ms / 1_000);
  const [days, hours, minutes] = [Math.floor(seconds / 86_400), Math.floor(seconds / 3_600) % 24, Math.floor(seconds / 60) % 60];
  if (days) return `${number(days)} d ${hours} h`;
  if (hours) return `${hours} h ${minutes} min`;
  return `${minutes} min ${seconds % 60} s`;
}

/** @param {number | null | undefined} seconds */
export function uptime(seconds) {
  if (!known(seconds)) return NONE;
  return seconds < 60 ? `${Math.round(seconds)} s` : duration(seconds * 1_000);
}

/** @param {number | null | undefined} count 1.5 MiB */
export function bytes(count) {
  if (!known(count)) return NONE;
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let at = 0;
  while (count >= 1_024 && at < units.length - 1) {
    count /= 1_024;
    at += 1;
  }
  return `${number(count, count < 10 && at ? 1 : 0)} ${units[at]}`;
}

/** @param {number | null | undefined} micro millionths of a US dollar */
export function cost(micro) {
  if (!known(micro)) return NONE;
  const dollars = micro / 1e6;
  if (dollars === 0) return "$0";
  return dollars < 0.01 ? `$${dollars.toPrecision(2)}` : `$${dollars.toLocaleString("en", { minimumFractionDigits: 2, maximumFractionDigits: 2 })}`;
}

/** @param {number | string | null | undefined} at Unix ms, or RFC 3339; local time, to the second */
export function date(at) {
  const value = moment(at);
  if (!value) return NONE;
  const two = (/** @type {number} */ part) => String(part).padStart(2, "0");
  return `${value.getFullYear()}-${two(value.getMonth() + 1)}-${two(value.getDate())} ${time(at)}`;
}

/** @param {number | string | null | undefined} at */
export function time(at) {
  const value = moment(at);
  return value ? value.toLocaleTimeString("en-GB") : NONE;
}

/** @param {number | string | null | undefined} at @param {number} [now] 3 min ago; in 2 h */
export function ago(at, now = Date.now()) {
  const value = moment(at);
  if (!value) return NONE;
  const seconds = Math.round((now - value.getTime()) / 1_000);
  const far = Math.abs(seconds);
  if (far < 5) return "now";
  const text = far < 60 ? `${far} s` : far < 3_600 ? `${Math.round(far / 60)} min` : far < 86_400 ? `${Math.round(far / 3_600)} h` : `${Math.round(far / 86_400)} d`;
  return seconds < 0 ? `in ${text}` : `${text} ago`;
}

/** @param {number} count @param {string} one @param {string} [many] 1 model, 2 models */
export function plural(count, one, many = `${one}s`) {
  return `${number(count)} ${count === 1 ? one : many}`;
}

/** `gateway_stopped` -> `Gateway stopped`. @param {string | null | undefined} word */
export function words(word) {
  if (!word) return NONE;
  const text = word.replaceAll("_", " ");
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** @param {number | string | null | undefined} at */
function moment(at) {
  if (at === null || at === undefined || at === "") return null;
  const value = new Date(at);
  return Number.isNaN(value.getTime()) ? null : value;
}

/** @param {number | null | undefined} value @returns {value is number} */
function known(value) {
  return typeof value === "number" && Number.isFinite(value);
}
