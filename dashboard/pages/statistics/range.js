/**
 * Which time is meant, and its hours or days.
 * @module
 */
const HOUR = 3_600_000;
const DAY = 24 * HOUR;

/** The ranges to choose from, by what stands in the address. */
export const RANGES = [
  { value: "6h", label: "Last 6 hours", lasts: 6 * HOUR },
  { value: "24h", label: "Last 24 hours", lasts: DAY },
  { value: "7d", label: "Last 7 days", lasts: 7 * DAY },
  { value: "30d", label: "Last 30 days", lasts: 30 * DAY },
  { value: "90d", label: "Last 90 days", lasts: 90 * DAY },
  { value: "all", label: "Everything", lasts: Infinity },
  { value: "custom", label: "From … to …", lasts: NaN },
];
export const USUAL = "24h";

/**
 * @typedef {object} Range
 * @property {number | null} from Unix ms
 * @property {number | null} until Unix ms; null: now
 * @property {"hour" | "day"} step of its charts
 */

/** @param {string} name @param {string} from a day, as an input of dates has it @param {string} to @param {number} now @returns {Range} */
export function rangeOf(name, from, to, now) {
  if (name === "custom") {
    const start = from ? new Date(`${from}T00:00`).getTime() : null;
    const end = to ? new Date(`${to}T00:00`).getTime() + DAY - 1 : null;
    return { from: start, until: end, step: start !== null && (end ?? now) - start <= 3 * DAY ? "hour" : "day" };
  }
  const { lasts } = RANGES.find(({ value }) => value === name) ?? RANGES[1];
  if (lasts === Infinity) return { from: null, until: null, step: "day" };
  // Sums are kept by the hour.
  return { from: Math.floor((now - lasts) / HOUR + 1) * HOUR, until: null, step: lasts <= 3 * DAY ? "hour" : "day" };
}

/** More points than a chart can show. */
const MOST = 800;

/**
 * The groups by their hour or day, with those between in which nothing was asked.
 * @param {Range} range @param {any[]} groups @param {number} now @returns {{ times: number[], at: (any | null)[] }}
 */
export function filled(range, groups, now) {
  const length = range.step === "hour" ? HOUR : DAY;
  const byTime = new Map(groups.map((group) => [Number(group.key), group]));
  const keys = [...byTime.keys()];
  const first = Math.floor((range.from ?? Math.min(now, ...keys)) / length) * length;
  const last = Math.floor(Math.min(range.until ?? now, now) / length) * length;
  const times = [];
  for (let at = Math.max(first, last - MOST * length); at <= last; at += length) times.push(at);
  return { times, at: times.map((time) => byTime.get(time) ?? null) };
}
