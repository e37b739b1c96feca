/**
 * Style sheets of single pages, so that the first load has no more than it needs.
 * @module
 */

/** @type {Map<string, Promise<void>>} */
const asked = new Map();

/**
 * Resolves when the sheet is there (or cannot be had: then the page is plain, and works). `await` it at the top of a page's module.
 * @param {string} name in `styles/` @returns {Promise<void>}
 */
export function styles(name) {
  let loading = asked.get(name);
  if (!loading) {
    loading = new Promise((resolve) => {
      const link = document.createElement("link");
      link.rel = "stylesheet";
      link.href = new URL(`../styles/${name}.css`, import.meta.url).href;
      link.onload = link.onerror = () => resolve();
      document.head.append(link);
    });
    asked.set(name, loading);
  }
  return loading;
}
