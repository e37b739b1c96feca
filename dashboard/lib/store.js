/**
 * What several pages know: resources of the API as signals, fetched again when an event says that they changed, and after a
 * break of the connection.
 * @module
 */
import { ApiError, api, request } from "./api.js";
import { on, onReconnect } from "./events.js";
import { computed, signal, useEffect, useMemo } from "./preact.js";

/**
 * @typedef {object} Resource
 * @property {import("./preact.js").Signal<any>} data null until the first answer
 * @property {import("./preact.js").Signal<ApiError | null>} error of the last try
 * @property {import("./preact.js").Signal<boolean>} loading
 * @property {import("./preact.js").Signal<string | null>} etag for `ifMatch`
 * @property {() => Promise<void>} refetch
 * @property {() => () => void} watch fetches, and again on events, until what it returns is called
 */

/** Events that come together cause one fetch. */
const TOGETHER = 100;

/**
 * @param {string} path
 * @param {{ query?: import("./api.js").Options["query"], events?: string | string[], every?: number }} [options]
 *   `events`: kinds upon which it is fetched again; `every`: ms, for what no event tells
 * @returns {Resource}
 */
export function resource(path, { query, events = [], every } = {}) {
  const data = signal(/** @type {any} */ (null));
  const error = signal(/** @type {ApiError | null} */ (null));
  const loading = signal(false);
  const etag = signal(/** @type {string | null} */ (null));
  let asked = 0;
  /** @type {number | undefined} */
  let soon;
  let watchers = 0;
  /** @type {(() => void)[]} */
  let endings = [];

  const refetch = async () => {
    const ours = ++asked;
    loading.value = true;
    try {
      const answer = await request("GET", path, { query });
      if (ours !== asked) return;
      data.value = answer.data;
      etag.value = answer.etag;
      error.value = null;
    } catch (caught) {
      if (ours !== asked) return;
      error.value = caught instanceof ApiError ? caught : new ApiError(0, { message: String(caught) });
    } finally {
      if (ours === asked) loading.value = false;
    }
  };
  const later = () => {
    clearTimeout(soon);
    soon = setTimeout(refetch, TOGETHER);
  };
  const watch = () => {
    watchers += 1;
    if (watchers === 1) {
      const timer = every ? setInterval(() => document.hidden || refetch(), every) : undefined;
      endings = [onReconnect(later), () => clearInterval(timer), () => clearTimeout(soon)];
      if (events.length) endings.push(on(events, later));
      void refetch();
    }
    let ended = false;
    return () => {
      if (ended) return;
      ended = true;
      watchers -= 1;
      if (watchers === 0) for (const end of endings.splice(0)) end();
    };
  };
  return { data, error, loading, etag, refetch, watch };
}

/**
 * A resource for as long as the component lives. Another path or query is another resource.
 * @param {string} path @param {Parameters<typeof resource>[1]} [options] @returns {Resource}
 */
export function useResource(path, options = {}) {
  const made = useMemo(() => resource(path, options), [path, JSON.stringify(options)]);
  useEffect(() => made.watch(), [made]);
  return made;
}

/** A shared resource of below. @param {Resource} shared @returns {Resource} */
export function useShared(shared) {
  useEffect(() => shared.watch(), [shared]);
  return shared;
}

/** Object S of the contract: `status`, `providerRouter`, `qwenProxy`, `providers`, `models`, `credentials`. The shell keeps it. */
export const status = resource("/api/proxy/status", { events: ["actor:*", "providers:updated", "models:updated", "credentials:updated"] });
on("proxy:status", ({ data }) => {
  if (data?.status) status.data.value = data.status;
});
export const providers = resource("/api/providers", { query: { limit: 1000 }, events: ["providers:updated", "provider:*"] });
export const models = resource("/api/models", { query: { limit: 1000 }, events: ["models:updated", "providers:updated"] });
export const settings = resource("/api/settings", { events: ["settings:updated"] });
export const auth = resource("/api/auth");

/** `running`, `stopped`, `partial`, or null when it is not known yet. */
export const gatewayState = computed(() => /** @type {string | null} */ (status.data.value?.status ?? null));

/** Starts or stops the client ports. @param {"start" | "stop"} what */
export async function steer(what) {
  const body = await api.post(`/api/proxy/${what}`);
  if (body?.status) status.data.value = body;
}
