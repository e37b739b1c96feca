/**
 * One stream of `/api/events` for all pages of a tab. It is resumed after a break, so that nothing is missed that the gateway
 * still knows; where it does not, and after every break, `onReconnect` tells who has lists to fetch them again.
 *
 * Read with fetch instead of EventSource: that one knows no kinds by pattern, hides the status of a refusal, and does not
 * notice a connection that died without a word.
 * @module
 */
import { needsLogin } from "./api.js";
import { signal } from "./preact.js";

/**
 * @typedef {object} Happening
 * @property {string} type such as `request:completed`
 * @property {string | null} id
 * @property {any} data has `action`, `description`, `at` (Unix ms) and what the kind adds
 */
/** @typedef {(happening: Happening) => void} Listener */

/** `connecting` until the first answer, `live`, or `lost` (a new try is under way by itself). */
export const connection = signal(/** @type {"connecting" | "live" | "lost"} */ ("connecting"));

/** The gateway says something at least every 15 s. */
const SILENCE = 40_000;
/** A browser has six connections to a host: hidden tabs give theirs back. */
const HIDDEN_FOR = 60_000;
const SHORTEST = 250;
const LONGEST = 4_000;

/** @type {Set<{ types: string[], listener: Listener }>} */
const listeners = new Set();
/** @type {Set<() => void>} */
const reconnected = new Set();
/** @type {string | null} */
let lastId = null;
let pause = SHORTEST;
let wasLive = false;
/** @type {AbortController | null} */
let reading = null;
/** @type {number | undefined} */
let retry;
/** @type {number | undefined} */
let hiding;

/**
 * Calls the listener for these kinds; `"actor:*"` means all that begin so, `"*"` all. Returns what ends it.
 * @param {string | string[]} types @param {Listener} listener @returns {() => void}
 */
export function on(types, listener) {
  const entry = { types: Array.isArray(types) ? types : [types], listener };
  listeners.add(entry);
  return () => void listeners.delete(entry);
}

/** Called when the connection is back after a break, or events were lost. @param {() => void} listener @returns {() => void} */
export function onReconnect(listener) {
  reconnected.add(listener);
  return () => void reconnected.delete(listener);
}

/** Begins, once, by the shell; again after a login. */
export function connect() {
  clearTimeout(retry);
  reading?.abort();
  reading = new AbortController();
  void read(reading);
}

/** @param {AbortController} controller */
async function read(controller) {
  let watchdog = setTimeout(() => controller.abort(), SILENCE);
  let refused = false;
  try {
    const headers = { accept: "text/event-stream", ...(lastId ? { "last-event-id": lastId } : {}) };
    const response = await fetch("/api/events", { headers, signal: controller.signal, credentials: "same-origin" });
    if (response.status === 401 || response.status === 403) {
      refused = true;
      needsLogin.value = true;
    }
    if (!response.ok || !response.body) throw new Error(`answered ${response.status}`);
    connection.value = "live";
    pause = SHORTEST;
    if (wasLive) tellReconnected();
    wasLive = true;
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    const take = parser(tell);
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      clearTimeout(watchdog);
      watchdog = setTimeout(() => controller.abort(), SILENCE);
      take(value);
    }
  } catch {
    // Refused, cut off or silent: all are tried again.
  } finally {
    clearTimeout(watchdog);
  }
  if (reading !== controller || refused || (document.hidden && hiding === undefined)) return;
  connection.value = "lost";
  retry = setTimeout(connect, pause);
  pause = Math.min(pause * 2, LONGEST);
}

/** @param {Happening} happening */
function tell(happening) {
  if (happening.id) lastId = happening.id;
  if (happening.type === "events:lost") tellReconnected();
  for (const { types, listener } of [...listeners]) {
    if (types.some((type) => type === happening.type || (type.endsWith("*") && happening.type.startsWith(type.slice(0, -1))))) {
      try {
        listener(happening);
      } catch (error) {
        console.error("a listener of events failed", error);
      }
    }
  }
}

function tellReconnected() {
  for (const listener of [...reconnected]) listener();
}

/**
 * Takes the stream piece by piece.
 * @param {(happening: Happening) => void} tell
 */
export function parser(tell) {
  let rest = "";
  let type = "message";
  /** @type {string | null} */
  let id = null;
  /** @type {string[]} */
  let data = [];
  return (/** @type {string} */ piece) => {
    const lines = (rest + piece).split(/\r?\n/);
    rest = lines.pop() ?? "";
    for (const line of lines) {
      if (line === "") {
        if (data.length) {
          const text = data.join("\n");
          let body = null;
          try {
            body = JSON.parse(text);
          } catch {
            body = text;
          }
          tell({ type, id, data: body });
        }
        [type, id, data] = ["message", null, []];
        continue;
      }
      if (line.startsWith(":")) continue;
      const colon = line.indexOf(":");
      const field = colon < 0 ? line : line.slice(0, colon);
      const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
      if (field === "event") type = value;
      else if (field === "data") data.push(value);
      else if (field === "id") id = value;
    }
  };
}

document.addEventListener("visibilitychange", () => {
  clearTimeout(hiding);
  hiding = undefined;
  if (!document.hidden) {
    if (connection.value === "lost" || reading === null || reading.signal.aborted) connect();
    return;
  }
  hiding = setTimeout(() => {
    hiding = undefined;
    clearTimeout(retry);
    reading?.abort();
  }, HIDDEN_FOR);
});
