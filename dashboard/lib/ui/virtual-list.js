import { html, signal, useEffect, useLayoutEffect, useMemo, useRef, useState } from "../preact.js";

/** @typedef {import("../preact.js").Children} Children */
/**
 * @typedef {object} RowSource rows of a long list, fetched in blocks as they come into view
 * @property {import("../preact.js").Signal<number>} total
 * @property {import("../preact.js").Signal<number>} version changes when rows have come
 * @property {import("../preact.js").Signal<unknown>} error
 * @property {(at: number) => any} row undefined until it is here
 * @property {(first: number, last: number) => void} need
 * @property {() => void} reset forgets all, and fetches again what is in view
 */

/** Blocks that are kept; what is far away is fetched again when it is needed. */
const MOST_BLOCKS = 40;

/**
 * @param {(offset: number, limit: number, signal: AbortSignal) => Promise<{ rows: any[], total: number }>} fetchBlock
 *   Where the API pages by cursor, keep the cursors by offset in the closure.
 * @param {number} [size] rows in a block
 * @returns {RowSource}
 */
export function rowSource(fetchBlock, size = 100) {
  const total = signal(0);
  const version = signal(0);
  const error = signal(/** @type {unknown} */ (null));
  /** @type {Map<number, any[]>} oldest use first */
  let blocks = new Map();
  /** @type {Map<number, AbortController>} */
  const coming = new Map();
  let needed = [0, 0];

  const need = (/** @type {number} */ first, /** @type {number} */ last) => {
    needed = [first, last];
    const from = Math.floor(Math.max(first, 0) / size);
    const to = Math.floor(Math.max(last, 0) / size);
    // Whoever drags the scroll bar passes many blocks: only where they stop matters.
    for (const [block, controller] of coming) if (block < from || block > to) controller.abort();
    for (let block = from; block <= to; block += 1) void fetchOne(block);
  };
  const fetchOne = async (/** @type {number} */ block) => {
    const here = blocks.get(block);
    if (here) {
      blocks.delete(block);
      blocks.set(block, here);
      return;
    }
    if (coming.has(block)) return;
    const controller = new AbortController();
    coming.set(block, controller);
    try {
      const answer = await fetchBlock(block * size, size, controller.signal);
      if (coming.get(block) !== controller) return;
      blocks.set(block, answer.rows);
      for (const oldest of blocks.keys()) if (blocks.size > MOST_BLOCKS) blocks.delete(oldest);
      total.value = answer.total;
      error.value = null;
      version.value += 1;
    } catch (caught) {
      if (!controller.signal.aborted) error.value = caught;
    } finally {
      if (coming.get(block) === controller) coming.delete(block);
    }
  };
  return {
    total,
    version,
    error,
    row: (at) => blocks.get(Math.floor(at / size))?.[at % size],
    need,
    reset: () => {
      for (const controller of coming.values()) controller.abort();
      coming.clear();
      blocks = new Map();
      need(needed[0], needed[1]);
    },
  };
}

/** Browsers stop at about 33 million pixels; beyond this the list is scrolled in proportion. */
const TALLEST = 8_000_000;
/** Rows above and below those in view that are kept ready. */
const AROUND = 8;

/**
 * A list of any length: only the rows in view are in the document. Rows have one height. Arrow keys, Page Up/Down, Home and End
 * move the active row, Enter opens it.
 * @param {{ source: RowSource, rowHeight?: number, label: string, render: (row: any, at: number) => Children, onOpen?: (row: any, at: number) => void,
 *   header?: Children, empty?: Children, height?: string }} props
 */
export function VirtualList({ source, rowHeight = 36, label, render, onOpen, header, empty, height }) {
  const frame = useRef(/** @type {HTMLDivElement | null} */ (null));
  // `jumped`: to where no row was ready. Those in view are drawn first then, and those around them in a later frame: half the work at a time.
  const [view, setView] = useState({ top: 0, height: 600, jumped: true });
  const [active, setActive] = useState(-1);
  const total = source.total.value;
  void source.version.value;
  const inner = Math.min(total * rowHeight, TALLEST);
  // In a list that is too tall a pixel of the scroll bar is more than a pixel of rows.
  const scale = inner > view.height ? (total * rowHeight - view.height) / (inner - view.height) : 1;
  const scaled = useRef(scale);
  scaled.current = scale;
  const offset = view.top * scale;
  const seen = { first: Math.max(0, Math.floor(offset / rowHeight)), last: Math.min(total - 1, Math.ceil((offset + view.height) / rowHeight)) };
  const first = Math.max(0, seen.first - AROUND);
  const last = Math.min(total - 1, seen.last + AROUND);
  const drawn = view.jumped ? seen : { first, last };
  const here = source.row(seen.first) !== undefined && source.row(seen.last) !== undefined;

  useLayoutEffect(() => {
    const box = frame.current;
    if (!box) return;
    const measure = () =>
      setView((now) => {
        const [top, height] = [box.scrollTop, box.clientHeight];
        return now.top === top && now.height === height ? now : { top, height, jumped: now.jumped || Math.abs(top - now.top) * scaled.current >= height };
      });
    let asked = 0;
    const soon = () => {
      cancelAnimationFrame(asked);
      asked = requestAnimationFrame(measure);
    };
    measure();
    box.addEventListener("scroll", soon, { passive: true });
    const observer = new ResizeObserver(soon);
    observer.observe(box);
    return () => {
      box.removeEventListener("scroll", soon);
      observer.disconnect();
      cancelAnimationFrame(asked);
    };
  }, []);
  useEffect(() => source.need(first, Math.max(last, first)), [source, first, last, total]);
  useEffect(() => {
    if (!view.jumped || !here) return;
    const asked = requestAnimationFrame(() => setView((now) => ({ ...now, jumped: false })));
    return () => cancelAnimationFrame(asked);
  }, [view, here]);

  const show = (/** @type {number} */ at) => {
    const box = frame.current;
    if (!box || total === 0) return;
    const to = Math.max(0, Math.min(total - 1, at));
    setActive(to);
    const top = to * rowHeight;
    if (top < offset) box.scrollTop = top / scale;
    else if (top + rowHeight > offset + view.height) box.scrollTop = (top + rowHeight - view.height) / scale;
  };
  const page = Math.max(1, Math.floor(view.height / rowHeight) - 1);
  const key = (/** @type {KeyboardEvent} */ event) => {
    if (event.target !== frame.current) return;
    const to = { ArrowDown: active + 1, ArrowUp: active - 1, PageDown: active + page, PageUp: active - page, Home: 0, End: total - 1 }[event.key];
    if (to !== undefined) {
      event.preventDefault();
      show(to);
    } else if (event.key === "Enter" && active >= 0 && onOpen) {
      const row = source.row(active);
      if (row !== undefined) onOpen(row, active);
    }
  };
  const id = useMemo(() => `rows-${Math.random().toString(36).slice(2)}`, []);
  const rows = [];
  for (let at = drawn.first; at <= drawn.last; at += 1) {
    const row = source.row(at);
    // Relative to what is scrolled to, or the browser's own rounding of huge numbers would show.
    const y = Math.round(view.top + (at * rowHeight - offset));
    rows.push(html`<div key=${at} id=${`${id}-${at}`} role="option" aria-selected=${at === active ? "true" : "false"} aria-posinset=${at + 1} aria-setsize=${total}
      class=${`virtual-row${at === active ? " active" : ""}${row === undefined ? " pending" : ""}`} style=${{ transform: `translateY(${y}px)`, height: `${rowHeight}px` }}
      onClick=${() => {
        setActive(at);
        if (row !== undefined && onOpen && !window.getSelection()?.toString()) onOpen(row, at);
      }}>${row === undefined ? null : render(row, at)}</div>`);
  }
  return html`<div class="virtual">
    ${header && html`<div class="virtual-head">${header}</div>`}
    <div ref=${frame} class="virtual-frame" style=${height ? { height } : undefined} tabindex="0" role="listbox" aria-label=${label}
      aria-activedescendant=${active >= drawn.first && active <= drawn.last ? `${id}-${active}` : undefined} onKeyDown=${key}>
      <div class="virtual-inner" role="presentation" style=${{ height: `${inner}px` }}>${rows}</div>
    </div>
    ${total === 0 && source.version.value > 0 && empty}
  </div>`;
}
