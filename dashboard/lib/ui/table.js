import { html } from "../preact.js";

/** @typedef {import("../preact.js").Children} Children */
/**
 * @template T
 * @typedef {object} Column
 * @property {string} key
 * @property {string} title
 * @property {(row: T) => Children} [cell] default: the row's value of `key`
 * @property {(row: T) => any} [sort] what it is sorted by; with it, its heading is a button
 * @property {"right"} [align]
 * @property {boolean} [hideTitle]
 * @property {boolean} [optional] left out on narrow screens
 * @property {boolean} [wide] takes the room that is left, and is cut off
 */

/**
 * A table of rows that are all here (`VirtualList` is for many).
 * @template T
 * @param {{ caption: string, columns: Column<T>[], rows: T[], rowKey: (row: T) => string, sort?: string, onSort?: (sort: string) => void,
 *   onRow?: (row: T) => void, selected?: string | null, empty?: Children, rowClass?: (row: T) => string }} props
 *   `sort`: a column's key, `-key` for the other way; keep it in the query with `setQuery`. `onRow` is for the mouse: give the
 *   row a link or button, too.
 */
export function Table({ caption, columns, rows, rowKey, sort = "", onSort, onRow, selected, empty, rowClass }) {
  const by = columns.find(({ key }) => key === sort.replace(/^-/, ""));
  const sorted = by?.sort ? [...rows].sort((a, b) => compare(by.sort?.(a), by.sort?.(b)) * (sort.startsWith("-") ? -1 : 1)) : rows;
  const classes = (/** @type {Column<T>} */ { align, optional, wide }) => [align === "right" && "right", optional && "optional", wide && "wide"].filter(Boolean).join(" ") || undefined;
  if (!rows.length && empty) return empty;
  return html`<div class="table-frame" tabindex="0" role="region" aria-label=${caption}><table class="table">
    <caption class="sr-only">${caption}</caption>
    <thead><tr>${columns.map((column) => {
      const { key, title, hideTitle } = column;
      const state = by === column ? (sort.startsWith("-") ? "descending" : "ascending") : undefined;
      const next = state === "ascending" ? `-${key}` : key;
      return html`<th scope="col" class=${classes(column)} aria-sort=${state}>
        ${column.sort && onSort
          ? html`<button type="button" class="sort" onClick=${() => onSort(next)}>${title}<span aria-hidden="true">${state === "ascending" ? "↑" : state === "descending" ? "↓" : ""}</span></button>`
          : html`<span class=${hideTitle ? "sr-only" : ""}>${title}</span>`}
      </th>`;
    })}</tr></thead>
    <tbody>${sorted.map((row) => {
      const id = rowKey(row);
      const name = [selected === id && "selected", onRow && "clickable", rowClass?.(row)].filter(Boolean).join(" ");
      return html`<tr key=${id} class=${name || undefined} onClick=${onRow ? (/** @type {MouseEvent} */ event) => clicked(event) && onRow(row) : undefined}>
        ${columns.map((column) => html`<td class=${classes(column)}>${column.cell ? column.cell(row) : /** @type {any} */ (row)[column.key] ?? "–"}</td>`)}
      </tr>`;
    })}</tbody>
  </table></div>`;
}

/** Links and buttons in a row do what they say, and selecting text is no click. @param {MouseEvent} event */
function clicked(event) {
  const inner = event.target instanceof Element && event.target.closest("a, button, input, select, label");
  return !inner && !window.getSelection()?.toString();
}

/** @param {any} a @param {any} b */
function compare(a, b) {
  if (a === b) return 0;
  if (a === null || a === undefined) return 1;
  if (b === null || b === undefined) return -1;
  return typeof a === "string" ? a.localeCompare(String(b), "en", { numeric: true }) : a < b ? -1 : 1;
}
