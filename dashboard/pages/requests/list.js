/**
 * The list of exchanges: of any length, live until it is held or scrolled.
 * @module
 */
import { on, onReconnect } from "../../lib/events.js";
import { cost, date, duration, number, plural, time, words } from "../../lib/format.js";
import { PlayIcon, StopIcon } from "../../lib/icons.js";
import { useCommands } from "../../lib/commands.js";
import { ending } from "../../lib/completion.js";
import { html, useEffect, useMemo, useRef, useState } from "../../lib/preact.js";
import { navigate, place } from "../../lib/router.js";
import { Badge, Button, ButtonLink, Empty, ErrorState, Loading, StatusDot, VirtualList } from "../../lib/ui.js";
import { Filters, clearFilters, filtersHere, isFiltered } from "./filters.js";
import { requestSource } from "./source.js";

/** How an exchange's state looks. */
export const STATES = /** @type {Record<string, ["good" | "warn" | "bad" | "neutral" | "info", string]>} */ ({
  in_progress: ["info", "Under way"],
  completed: ["good", "Completed"],
  failed: ["bad", "Failed"],
  client_closed: ["neutral", "Client left"],
  interrupted: ["warn", "Interrupted"],
});
const narrow = matchMedia("(max-width: 860px)");

/** @param {{ hidden: boolean }} props while one exchange is shown the list waits behind it, where it was */
export function List({ hidden }) {
  const filters = filtersHere();
  const name = JSON.stringify(filters);
  // What the address of one exchange leaves out must not change the list behind it.
  const last = useRef({ name, filters });
  if (!hidden) last.current = { name, filters };
  const source = useMemo(() => requestSource(last.current.filters), [last.current.name]);
  const [paused, setPaused] = useState(false);
  const [away, setAway] = useState(false);
  const frame = useRef(/** @type {HTMLDivElement | null} */ (null));
  const isNarrow = useNarrow();

  useEffect(() => source.end, [source]);
  const top = useRef(0);
  useEffect(() => {
    top.current = 0;
    setAway(false);
  }, [source]);
  useEffect(() => {
    const endings = [on("request:*", ({ type, data }) => source.heard(type, data)), on("requests:updated", ({ type, data }) => source.heard(type, data)), onReconnect(source.reset)];
    return () => endings.forEach((end) => end());
  }, [source]);
  const stands = paused || away || hidden;
  useEffect(() => {
    if (stands) source.hold();
    else if (source.held.value) source.release();
  }, [source, stands]);
  // Whoever scrolls reads: rows must not move under them.
  const scrolled = (/** @type {Event} */ event) => {
    if (hidden || !(event.target instanceof HTMLElement) || !event.target.classList.contains("virtual-frame")) return;
    top.current = event.target.scrollTop;
    setAway(top.current > 0);
  };
  const toTop = () => {
    const box = frame.current?.querySelector(".virtual-frame");
    if (box) box.scrollTop = 0;
    setPaused(false);
  };
  // A list that is not shown forgets where it was; and whoever comes back goes on by keyboard.
  const wasHidden = useRef(hidden);
  useEffect(() => {
    if (hidden) {
      wasHidden.current = true;
      return;
    }
    if (!wasHidden.current) return;
    wasHidden.current = false;
    const box = frame.current?.querySelector(".virtual-frame");
    if (!(box instanceof HTMLElement)) return;
    const asked = requestAnimationFrame(() => {
      box.scrollTop = top.current;
      requestAnimationFrame(() => box.focus({ preventScroll: true }));
    });
    return () => cancelAnimationFrame(asked);
  }, [hidden]);
  useCommands([{ id: "tail", title: stands ? "Follow new requests" : "Pause the list of requests", group: "Requests", keywords: "live tail", run: () => (stands ? toTop() : setPaused(true)) }], [stands]);

  // Scrolling draws all rows in view again: those that did not change are the same nodes.
  const drawn = useMemo(() => new WeakMap(), [source, isNarrow]);
  const draw = (/** @type {any} */ row) => {
    let node = drawn.get(row);
    if (!node) drawn.set(row, (node = isNarrow ? html`<${NarrowRow} row=${row} />` : html`<${WideRow} row=${row} />`));
    return node;
  };
  const open = (/** @type {any} */ row) => navigate(`/requests/${encodeURIComponent(row.request_id)}${location.search}`);
  const searching = Boolean(filters.q);
  const error = source.error.value;
  const height = isNarrow ? (searching ? 84 : 58) : searching ? 62 : 38;
  const none = isFiltered()
    ? html`<${Empty} title="Nothing fits these filters" actions=${html`<${Button} onClick=${clearFilters}>Clear the filters<//>`}>Requests appear here as they come, if they fit.<//>`
    : html`<${Empty} title="No requests yet" actions=${html`<${ButtonLink} kind="primary" href="/chat">Ask something in the chat<//><${ButtonLink} href="/">Copy a snippet<//>`}>They appear here as your clients send them.<//>`;
  void source.version.value;
  return html`<div class="stack request-list" hidden=${hidden} ref=${frame} onScrollCapture=${scrolled}>
    <${Filters} error=${error} />
    <section class="panel" aria-label="Requests">
      <header class="panel-head"><div class="row"><span data-test="total">${plural(source.total.value, "request")}</span>${!stands && html`<${StatusDot} tone="good" pulse>Live<//>`}${stands && html`<${StatusDot} tone="neutral">Held<//>`}</div>
        <div class="actions">
          ${stands && source.waiting.value > 0 && html`<${Button} small kind="primary" onClick=${toTop}>Show ${number(source.waiting.value)} new<//>`}
          <${Button} small aria-pressed=${paused ? "true" : "false"} onClick=${() => (stands ? toTop() : setPaused(true))}>${stands ? html`<${PlayIcon} size="14" />Follow` : html`<${StopIcon} size="14" />Pause`}<//>
        </div></header>
      <div class="panel-flush">
        ${error && html`<${ErrorState} error=${error} title="The list could not be fetched" retry=${source.reset} />`}
        ${source.version.value === 0 && html`<${Loading} what="Loading requests" />`}
        <div class=${`requests${error && !source.total.value ? " sr-only" : ""}${source.total.value === 0 ? " requests-none" : ""}`}>
          <${VirtualList} key=${`${last.current.name}${height}`} source=${source} rowHeight=${height} label="Requests" onOpen=${open} header=${!isNarrow && html`<${Heads} />`} empty=${error ? null : none}
            height="max(320px, calc(100dvh - 330px))" render=${draw} />
        </div>
      </div>
    </section>
  </div>`;
}

/** Of today only the time. @param {number} at */
const when = (at) => (new Date(at).toDateString() === new Date().toDateString() ? time(at) : date(at).slice(5));

function Heads() {
  return html`<div class="request-row" aria-hidden="true"><span>Time</span><span>Status</span><span>Model</span><span>Provider</span><span class="right">First token</span><span class="right">Took</span><span class="right">Tokens</span><span class="right">Cost</span><span>Notes</span></div>`;
}

/** @param {{ row: any }} props */
function WideRow({ row }) {
  const [tone, word] = STATES[row.status] ?? ["neutral", words(row.status)];
  const end = row.response_summary;
  return html`<div class="request-row"><span class="mono small" title=${date(row.timestamp)}>${when(row.timestamp)}</span>
      <span class="truncated"><${StatusDot} tone=${tone} pulse=${row.status === "in_progress"}>${word}<//></span>
      <span class="truncated request-model" title=${row.model}>${row.model || "–"}</span><span class="truncated" title=${row.provider}>${row.provider ?? "–"}</span>
      <span class="right">${duration(end?.ttft_ms)}</span><span class="right">${duration(end?.duration_ms)}</span><span class="right">${number(end?.total_tokens)}</span><span class="right">${cost(end?.cost_microusd)}</span>
      <${Note} row=${row} /></div>
    ${row.snippet && html`<div class="request-snippet truncated" title=${row.snippet}>${marked(row.snippet)}</div>`}`;
}

/** @param {{ row: any }} props */
function NarrowRow({ row }) {
  const [tone, word] = STATES[row.status] ?? ["neutral", words(row.status)];
  return html`<div class="request-narrow"><div class="row-between"><span class="truncated request-model">${row.model || "–"}</span><span class="mono small nowrap">${when(row.timestamp)}</span></div>
    <div class="row-between"><span class="row nowrap small"><${StatusDot} tone=${tone}>${word}<//><span class="truncated muted">${row.provider ?? ""}</span></span><span class="small nowrap">${duration(row.response_summary?.duration_ms)}</span></div>
    ${row.snippet && html`<div class="truncated small muted">${marked(row.snippet)}</div>`}</div>`;
}

/** @param {{ row: any }} props */
function Note({ row }) {
  const end = row.response_summary;
  if (end?.error) return html`<span class="truncated request-error" title=${end.error}>${end.error.replace(/^provider `[^`]*` answered /, "")}</span>`;
  return html`<span class="truncated muted">${end?.from_cache && html`<${Badge} tone="info">Cache<//> `}${[row.stream ? "streamed" : "", ending(end?.finish_reason)].filter(Boolean).join(", ")}${Object.entries(row.tags ?? {}).map(([name, value]) => ` · ${name}=${value}`)}</span>`;
}

/** The words that were looked for, as the address has them. @param {string} text */
function marked(text) {
  const looked = (place.value.query.get("q") ?? "").toLowerCase().split(/[^\p{L}\p{N}]+/u).filter(Boolean);
  if (!looked.length) return text;
  const fits = new RegExp(`(${looked.map((word) => word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")).join("|")})`, "giu");
  return text.split(fits).map((part, at) => (at % 2 ? html`<mark>${part}</mark>` : part));
}

/** Whether the window is a phone's. */
function useNarrow() {
  const [now, setNow] = useState(narrow.matches);
  useEffect(() => {
    const changed = () => setNow(narrow.matches);
    narrow.addEventListener("change", changed);
    return () => narrow.removeEventListener("change", changed);
  }, []);
  return now;
}
