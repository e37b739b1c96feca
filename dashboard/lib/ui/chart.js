import { html, useEffect, useRef, useState } from "../preact.js";
import { dark } from "../theme.js";
import { date, number, time } from "../format.js";
import { Table } from "./table.js";

/**
 * @typedef {object} Series
 * @property {string} title
 * @property {(number | null)[]} values one for each of `times`
 * @property {1 | 2 | 3 | 4 | 5 | 6} [colour] of the tokens `--chart-1` to `--chart-6`; default: by its place
 * @property {boolean} [bars]
 */

/** Hours of the day say nothing over weeks. @param {number[]} times */
const spansDays = (times) => times.length > 1 && times[times.length - 1] - times[0] > 2 * 86_400_000;

/** A value between two that are not known would not be seen as a line. @param {any} plot @param {number} at */
const lonely = (plot, at) => plot.data[at].includes(null);

/** Loaded with the first chart. */
let library = /** @type {Promise<any> | null} */ (null);
const load = () => {
  if (!library) {
    const link = document.createElement("link");
    link.rel = "stylesheet";
    link.href = new URL("../../vendor/uplot.css", import.meta.url).href;
    document.head.append(link);
    library = import("../../vendor/uplot.js").then((module) => module.default);
    // The next chart tries again.
    library.catch(() => (library = null));
  }
  return library;
};

/**
 * Lines (or bars) over time, in the colours of the theme. What it shows can also be read as a table.
 * @param {{ title: string, times: number[], series: Series[], format?: (value: number | null) => string, height?: number, stacked?: false,
 *   axis?: "time" | "none", table?: boolean }} props `times`: Unix ms; give new arrays for new values. `table`: with a button for it
 */
export function Chart({ title, times, series, format = (value) => number(value, 2), height = 160, axis = "time", table = true }) {
  const box = useRef(/** @type {HTMLDivElement | null} */ (null));
  const plot = useRef(/** @type {any} */ (null));
  const [asTable, setAsTable] = useState(false);
  const [failure, setFailure] = useState(false);
  const isDark = dark.value;
  const long = spansDays(times);
  const moment = (/** @type {number} */ at) => (long ? date(at).slice(5, 10) : time(at).slice(0, 5));
  const shape = JSON.stringify([long, series.map(({ title: name, colour, bars }) => [name, colour, bars]), height, axis, isDark, asTable]);
  const data = [times.map((at) => at / 1_000), ...series.map(({ values }) => values)];
  const latest = useRef(data);
  latest.current = data;

  useEffect(() => {
    const frame = box.current;
    if (!frame || asTable) return;
    let gone = false;
    let observer = /** @type {ResizeObserver | null} */ (null);
    load().then(
      (Plot) => {
        if (gone) return;
        const style = getComputedStyle(document.documentElement);
        const token = (/** @type {string} */ name) => style.getPropertyValue(name).trim();
        const lines = { stroke: token("--text-muted"), grid: { stroke: token("--border"), width: 1 }, ticks: { show: false }, font: `11px ${token("--font")}` };
        plot.current = new Plot(
          {
            width: Math.max(frame.clientWidth, 100),
            height,
            padding: [8, 8, axis === "none" ? 8 : 0, 0],
            cursor: { y: false, drag: { x: false, y: false } },
            legend: { show: series.length > 1, live: false },
            scales: { x: { time: true }, y: { range: (/** @type {any} */ _, /** @type {number} */ min, /** @type {number} */ max) => [Math.min(0, min ?? 0), max > 0 ? max * 1.1 : 1] } },
            axes: [
              { ...lines, show: axis === "time", size: 20, space: 70, values: (/** @type {any} */ _, /** @type {number[]} */ splits) => splits.map((at) => moment(at * 1_000)) },
              { ...lines, size: 56, space: 36, values: (/** @type {any} */ _, /** @type {number[]} */ splits) => splits.map((value) => format(value)) },
            ],
            series: [
              {},
              ...series.map(({ title: label, colour, bars }, at) => {
                const stroke = token(`--chart-${colour ?? (at % 6) + 1}`);
                return { label, stroke, width: 1.75, spanGaps: true, points: { show: lonely, size: 5, fill: stroke }, ...(bars ? { fill: stroke, paths: Plot.paths.bars({ size: [0.7, 60] }) } : series.length === 1 ? { fill: `${stroke}22` } : {}) };
              }),
            ],
          },
          latest.current,
          frame,
        );
        observer = new ResizeObserver(() => plot.current?.setSize({ width: Math.max(frame.clientWidth, 100), height }));
        observer.observe(frame);
      },
      () => gone || setFailure(true),
    );
    return () => {
      gone = true;
      observer?.disconnect();
      plot.current?.destroy();
      plot.current = null;
    };
  }, [shape]);
  useEffect(() => plot.current?.setData(data), [times, ...series.map(({ values }) => values)]);

  const rows = times.map((at, index) => ({ at, index }));
  const summary = series.map(({ title: name, values }) => {
    const known = values.filter((value) => value !== null);
    if (!known.length) return `${name}: no values`;
    return `${name}: latest ${format(known[known.length - 1])}, highest ${format(Math.max(.../** @type {number[]} */ (known)))}`;
  });
  return html`<figure class="chart">
    <figcaption><span>${title}</span>${table && html`<button type="button" class="button button-ghost button-small" aria-pressed=${asTable ? "true" : "false"} aria-label=${`${title} as a table`} onClick=${() => setAsTable(!asTable)}>Table</button>`}</figcaption>
    ${asTable || failure
      ? html`<div class="chart-table" style=${{ maxHeight: `${height + 40}px` }}><${Table} caption=${title} rows=${rows.reverse()} rowKey=${(/** @type {any} */ row) => String(row.at)} columns=${[
          { key: "at", title: "Time", cell: (/** @type {any} */ { at }) => (spansDays(times) ? date(at).slice(0, 16) : time(at)) },
          ...series.map(({ title: name, values }) => ({ key: name, title: name, align: "right", cell: (/** @type {any} */ { index }) => format(values[index] ?? null) })),
        ]} /></div>`
      : html`<div ref=${box} class="chart-box" role="img" aria-label=${`${title}. ${summary.join("; ")}`} style=${{ minHeight: `${height}px` }}></div>`}
  </figure>`;
}
