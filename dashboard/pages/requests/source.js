/**
 * The history as rows of a list: fetched in blocks by the API's cursors where the block before is known, else by number, so that
 * the scroll bar reaches any row of a million at once. Live, or held as it was at a moment: what comes meanwhile would move every row.
 * @module
 */
import { ApiError, api } from "../../lib/api.js";
import { signal } from "../../lib/preact.js";

/** @typedef {Record<string, string>} Filters as the API calls them */

const SIZE = 100;
const MOST_BLOCKS = 40;
/** How long the scroll bar has to stand still far from what is known, ms: whoever drags it passes thousands of rows. */
const STANDSTILL = 80;
/** The least time between two looks at what is new, ms. */
const PACE = 400;
/** How often a busy gateway is asked again, each time after what it says or a second. */
const TRIES = 5;
/** Endings that are remembered: an answer on its way may still say that they are under way. */
const MOST_ENDED = 500;
const FIELDS = "request_id,timestamp,model,stream,provider,status,session_id,path,tags,response_summary";

/** @param {Filters} filters */
export function requestSource(filters) {
  const total = signal(0);
  const version = signal(0);
  const error = signal(/** @type {any} */ (null));
  const held = signal(false);
  const waiting = signal(0);
  /** @type {Map<number, any[]>} oldest use first */
  let blocks = new Map();
  /** @type {Map<number, string>} by the block that begins there */
  let cursors = new Map();
  let coming = /** @type {AbortController | null} */ (null);
  /** @type {Map<string, any>} */
  const ended = new Map();
  let until = /** @type {number | null} */ (null);
  let needed = [0, 0];
  let generation = 0;
  let looking = false;
  let again = false;
  /** @type {number | undefined} */
  let soon;
  /** @type {number | undefined} */
  let still;

  const query = (/** @type {number} */ block) => {
    const last = [until, filters.end_date ? Number(filters.end_date) : null].filter((at) => at !== null);
    const cursor = cursors.get(block);
    const place = cursor ? { cursor } : block ? { offset: block * SIZE } : {};
    return { ...filters, ...(last.length ? { end_date: Math.min(.../** @type {number[]} */ (last)) } : {}), ...place, fields: FIELDS, limit: SIZE };
  };
  const known = (/** @type {any[]} */ rows) => rows.map((row) => (row.status === "in_progress" && ended.has(row.request_id) ? { ...row, ...ended.get(row.request_id) } : row));
  const wanted = () => [Math.floor(Math.max(needed[0], 0) / SIZE), Math.floor(Math.max(needed[1], 0) / SIZE)];

  /**
   * Fetches what is in view and not here, one part after the other: the gateway does not stop when a question is taken back, so
   * whoever drags the scroll bar must not leave a row of them behind; and where one part ends the next is found by its cursor.
   */
  const fetchNext = async () => {
    if (coming || looking) return;
    const [from, to] = wanted();
    let block = from;
    for (; block <= to; block += 1) {
      const here = blocks.get(block);
      if (!here) break;
      blocks.delete(block);
      blocks.set(block, here);
    }
    if (block > to) return;
    const ours = generation;
    coming = new AbortController();
    try {
      const page = await patiently(query(block), coming.signal);
      if (ours !== generation) return;
      blocks.set(block, known(page.requests));
      if (page.next_cursor) cursors.set(block + 1, page.next_cursor);
      for (const oldest of blocks.keys()) if (blocks.size > MOST_BLOCKS) blocks.delete(oldest);
      total.value = page.total;
      error.value = null;
      version.value += 1;
    } catch (caught) {
      if (ours !== generation) return;
      coming = null;
      error.value = caught;
      version.value += 1;
      // Whoever reads that presses "Try again", or scrolls.
      return;
    }
    coming = null;
    void fetchNext();
  };
  /** Looks again at what is in view; what is there stays until the new is here. */
  const refresh = async () => {
    if (looking) {
      again = true;
      return;
    }
    looking = true;
    again = false;
    const ours = ++generation;
    coming?.abort();
    coming = null;
    const [from, to] = wanted();
    const fresh = /** @type {Map<number, any[]>} */ (new Map());
    const places = /** @type {Map<number, string>} */ (new Map());
    cursors = new Map();
    try {
      for (let block = from; block <= to; block += 1) {
        const page = await patiently(query(block));
        if (ours !== generation) return;
        fresh.set(block, known(page.requests));
        if (page.next_cursor) places.set(block + 1, page.next_cursor);
        total.value = page.total;
      }
      blocks = fresh;
      cursors = places;
      error.value = null;
      version.value += 1;
    } catch (caught) {
      if (ours !== generation) return;
      error.value = caught;
      version.value += 1;
    } finally {
      looking = false;
      if (again) later();
      // Scrolled meanwhile.
      else source.need(needed[0], needed[1]);
    }
  };
  const later = () => {
    soon ??= setTimeout(() => {
      soon = undefined;
      void refresh();
    }, PACE);
  };
  const change = (/** @type {string} */ id, /** @type {any} */ changes) => {
    for (const rows of blocks.values()) {
      const at = rows.findIndex((row) => row.request_id === id);
      if (at < 0) continue;
      if (rows[at].status === "in_progress") rows[at] = { ...rows[at], ...changes };
      version.value += 1;
      return;
    }
  };
  const source = {
    total,
    version,
    error,
    /** The list stands still. */
    held,
    /** Exchanges that began since. */
    waiting,
    row: (/** @type {number} */ at) => blocks.get(Math.floor(at / SIZE))?.[at % SIZE],
    need: (/** @type {number} */ first, /** @type {number} */ last) => {
      needed = [first, last];
      const [from, to] = wanted();
      clearTimeout(still);
      const near = blocks.size === 0 || [from - 1, from, to, to + 1].some((block) => blocks.has(block));
      if (near) void fetchNext();
      else still = setTimeout(fetchNext, STANDSTILL);
    },
    reset: () => void refresh(),
    hold: () => {
      if (held.value) return;
      held.value = true;
      const newest = blocks.get(0)?.[0]?.timestamp;
      until = newest ?? Date.now();
      cursors = new Map();
    },
    release: () => {
      held.value = false;
      waiting.value = 0;
      until = null;
      void refresh();
    },
    /** Takes in an event about an exchange. @param {string} type @param {any} data */
    heard: (type, data) => {
      if (type === "request:started") {
        const fits = (!filters.model || filters.model === data.model) && (!filters.stream || filters.stream === String(data.stream));
        if (held.value && fits) waiting.value += 1;
      } else if (type === "request:attempted") {
        change(data.requestId, { provider: data.provider });
      } else if (type === "request:completed") {
        const ending = endingOf(data);
        ended.set(data.requestId, ending);
        for (const oldest of ended.keys()) if (ended.size > MOST_ENDED) ended.delete(oldest);
        change(data.requestId, ending);
      }
      if (!held.value && type !== "request:attempted") later();
      else if (type === "requests:updated") later();
    },
    end: () => {
      generation += 1;
      clearTimeout(soon);
      clearTimeout(still);
      coming?.abort();
    },
  };
  return source;
}

/** A part of the list; a gateway that is busy is asked again. @param {import("../../lib/api.js").Options["query"]} query @param {AbortSignal} [signal] */
async function patiently(query, signal) {
  for (let tried = 1; ; tried += 1) {
    try {
      return await api.get("/api/requests", { query, signal });
    } catch (error) {
      if (!(error instanceof ApiError) || error.status !== 503 || tried === TRIES) throw error;
      await new Promise((resolve) => setTimeout(resolve, 1_000 * (error.retryAfter ?? 1)));
      signal?.throwIfAborted();
    }
  }
}

/** A row's end as the event tells it. @param {any} data */
function endingOf(data) {
  return {
    status: data.status,
    provider: data.provider,
    response_summary: {
      finish_reason: data.finishReason,
      total_tokens: data.totalTokens,
      cost_microusd: data.costMicrousd,
      duration_ms: data.durationMs,
      ttft_ms: data.ttftMs,
      http_status: data.httpStatus,
      error: data.error,
      from_cache: data.fromCache,
    },
  };
}
