/**
 * Where the user is: the path, and query parameters as the state of a page (filters, tabs), so that a link shows the same.
 * @module
 */
import { signal } from "./preact.js";

/**
 * @typedef {object} Place
 * @property {string} path
 * @property {string[]} segments of the path, decoded
 * @property {URLSearchParams} query
 */

/** @type {import("./preact.js").Signal<Place>} */
export const place = signal(here());

/** @returns {Place} */
function here() {
  const { pathname, search } = window.location;
  const segments = pathname.split("/").filter(Boolean).map(decoded);
  return { path: pathname, segments, query: new URLSearchParams(search) };
}

/** @param {string} text */
function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** Goes to a page of the dashboard. @param {string} to path with query @param {{ replace?: boolean }} [options] */
export function navigate(to, { replace = false } = {}) {
  const before = place.value.path;
  if (replace) history.replaceState(null, "", to);
  else history.pushState(null, "", to);
  place.value = here();
  if (place.value.path !== before) arrived();
}

/**
 * Changes parameters of the query; null removes one. Replaces the entry of the history unless told otherwise.
 * @param {Record<string, string | number | boolean | null | undefined>} changes @param {{ replace?: boolean }} [options]
 */
export function setQuery(changes, { replace = true } = {}) {
  const query = new URLSearchParams(place.value.query);
  for (const [key, value] of Object.entries(changes)) {
    if (value === null || value === undefined || value === "") query.delete(key);
    else query.set(key, String(value));
  }
  const text = query.toString();
  navigate(place.value.path + (text ? `?${text}` : ""), { replace });
}

/** One parameter of the query, "" when there is none. @param {string} key @param {string} [otherwise] */
export function param(key, otherwise = "") {
  return place.value.query.get(key) ?? otherwise;
}

/** A new page begins at its top, and a screen reader says where it is. */
function arrived() {
  window.scrollTo(0, 0);
  requestAnimationFrame(() => document.getElementById("main")?.focus({ preventScroll: true }));
}

window.addEventListener("popstate", () => (place.value = here()));

/** Links to pages are ordinary `<a href>`; they do not load the document again. */
document.addEventListener("click", (event) => {
  if (event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  const link = event.target instanceof Element ? event.target.closest("a[href]") : null;
  if (!(link instanceof HTMLAnchorElement) || link.target || link.hasAttribute("download")) return;
  const url = new URL(link.href);
  if (url.origin !== window.location.origin || /^\/(api|assets|metrics)(\/|$)/.test(url.pathname)) return;
  if (url.hash && url.pathname === window.location.pathname) return;
  event.preventDefault();
  navigate(url.pathname + url.search);
});
