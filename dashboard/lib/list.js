/**
 * A list that is fetched page by page, and as a whole again when something changed.
 * @module
 */
import { ApiError, api } from "./api.js";
import { on, onReconnect } from "./events.js";
import { signal, useEffect, useMemo } from "./preact.js";

/** Events that come together cause one fetch, and steady ones no more than one in this time (ms). */
const TOGETHER = 500;
const MOST = 1_000;

/**
 * @typedef {object} PagedList
 * @property {import("./preact.js").Signal<any>} data the first body, with the rows of all pages so far; null until it is there
 * @property {import("./preact.js").Signal<ApiError | null>} error
 * @property {import("./preact.js").Signal<boolean>} loading
 * @property {() => Promise<void>} refetch as many rows as there are
 * @property {() => Promise<void>} more the next page
 */

/**
 * @param {string} path @param {string} rows the member of the body that holds them
 * @param {{ query?: Record<string, any>, events?: string | string[], size?: number }} [options]
 * @returns {PagedList}
 */
export function useList(path, rows, options = {}) {
  const list = useMemo(() => paged(path, rows, options), [path, rows, JSON.stringify(options)]);
  useEffect(() => {
    void list.refetch();
    /** @type {number | undefined} */
    let soon;
    const later = () => (soon ??= setTimeout(() => ((soon = undefined), void list.refetch()), TOGETHER));
    const endings = [onReconnect(later), on(options.events ?? [], later)];
    return () => {
      clearTimeout(soon);
      for (const end of endings) end();
    };
  }, [list]);
  return list;
}

/** @param {string} path @param {string} rows @param {{ query?: Record<string, any>, size?: number }} options @returns {PagedList} */
function paged(path, rows, { query = {}, size = 50 }) {
  const data = signal(/** @type {any} */ (null));
  const error = signal(/** @type {ApiError | null} */ (null));
  const loading = signal(false);
  let asked = 0;
  /** @param {Record<string, any>} page @param {any[]} before */
  const fetched = async (page, before) => {
    const ours = ++asked;
    loading.value = true;
    try {
      const body = await api.get(path, { query: { ...query, ...page } });
      if (ours !== asked) return;
      data.value = { ...body, [rows]: [...before, ...body[rows]] };
      error.value = null;
    } catch (caught) {
      if (ours === asked) error.value = caught instanceof ApiError ? caught : new ApiError(0, { message: String(caught) });
    } finally {
      if (ours === asked) loading.value = false;
    }
  };
  return {
    data,
    error,
    loading,
    refetch: () => fetched({ limit: Math.min(MOST, Math.max(size, data.value?.[rows].length ?? 0)) }, []),
    more: () => fetched({ limit: size, cursor: data.value?.next_cursor }, data.value?.[rows] ?? []),
  };
}
