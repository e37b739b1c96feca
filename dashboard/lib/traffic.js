/**
 * What went through the gateway lately, second by second, from events. Kept for the tab, so that a page that is left and
 * opened again goes on.
 * @module
 */
import { api } from "./api.js";
import { on, onReconnect } from "./events.js";
import { signal } from "./preact.js";

/** @typedef {{ at: number, ok: boolean, ttft: number | null, duration: number | null, tokens: number }} Sample */

/** How far back, and how much of it is one point. */
export const SPAN = 10 * 60_000;
export const STEP = 10_000;

/** @type {Sample[]} oldest first */
let samples = [];
/** Changes when there is more, and with time. */
export const beat = signal(0);
/** Requests that have begun and not ended. */
export const open = signal(0);
let begun = false;

/** Begins to listen, once: by the first page that shows it. */
export function listen() {
  if (begun) return;
  begun = true;
  on("request:started", () => void (open.value += 1));
  on("request:completed", ({ data }) => {
    open.value = Math.max(0, open.value - 1);
    samples.push({
      at: typeof data.at === "number" ? data.at : Date.now(),
      ok: data.status !== "failed",
      ttft: data.ttftMs ?? null,
      duration: data.durationMs ?? null,
      tokens: data.totalTokens ?? 0,
    });
    beat.value += 1;
  });
  onReconnect(() => {
    open.value = 0;
    void seed();
  });
  setInterval(() => document.hidden || (beat.value += 1), 2_000);
  void seed();
}

/** What was before the tab was opened. */
async function seed() {
  const since = Date.now() - SPAN;
  try {
    const fields = "timestamp,status,response_summary";
    const { requests } = await api.get("/api/requests", { query: { limit: 1000, start_date: since, fields } });
    const ended = requests.filter((/** @type {any} */ row) => row.response_summary);
    const known = ended.map((/** @type {any} */ { timestamp, status, response_summary: answer }) => ({
      at: timestamp + (answer.duration_ms ?? 0),
      ok: status !== "failed",
      ttft: answer.ttft_ms ?? null,
      duration: answer.duration_ms ?? null,
      tokens: answer.total_tokens ?? 0,
    }));
    const newest = Math.max(0, ...known.map((/** @type {Sample} */ { at }) => at));
    samples = [...known.reverse(), ...samples.filter(({ at }) => at > newest)];
    beat.value += 1;
  } catch {
    // Then it begins now.
  }
}

/** Points for charts, and the sums of the last minute. Reads `beat`: whoever calls it in a component is drawn again. */
export function recent(now = Date.now()) {
  void beat.value;
  samples = samples.filter(({ at }) => at > now - SPAN);
  const end = Math.ceil(now / STEP) * STEP;
  const times = Array.from({ length: SPAN / STEP }, (_, at) => end - SPAN + at * STEP);
  const buckets = times.map(() => /** @type {Sample[]} */ ([]));
  for (const sample of samples) {
    const at = Math.floor((sample.at - times[0]) / STEP);
    buckets[Math.min(at, buckets.length - 1)]?.push(sample);
  }
  const minute = samples.filter(({ at }) => at > now - 60_000);
  return {
    times,
    perSecond: buckets.map((bucket) => (bucket.length * 1_000) / STEP),
    ttft: buckets.map((bucket) => median(bucket.map(({ ttft }) => ttft))),
    tokens: buckets.map((bucket) => (sum(bucket, ({ tokens }) => tokens) * 1_000) / STEP),
    errors: buckets.map((bucket) => bucket.filter(({ ok }) => !ok).length),
    lastMinute: {
      requests: minute.length,
      perSecond: minute.length / 60,
      ttft: median(minute.map(({ ttft }) => ttft)),
      tokens: sum(minute, ({ tokens }) => tokens),
      errors: minute.filter(({ ok }) => !ok).length,
    },
  };
}

/** @param {(number | null)[]} values @returns {number | null} */
function median(values) {
  const known = values.filter((value) => value !== null).sort((a, b) => Number(a) - Number(b));
  return known[Math.floor((known.length - 1) / 2)] ?? null;
}

/** @template T @param {T[]} all @param {(one: T) => number} of */
const sum = (all, of) => all.reduce((total, one) => total + of(one), 0);
