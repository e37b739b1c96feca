/**
 * Where the time of an exchange went: waiting, each attempt to its headers, its first token and its end, and who went on for whom.
 * @module
 */
import { api, segment } from "../../lib/api.js";
import { duration, number, words } from "../../lib/format.js";
import { html, useEffect, useState } from "../../lib/preact.js";
import { Badge, Code, Empty, Table } from "../../lib/ui.js";

/** @typedef {{ from: number, to: number, kind: "queue" | "headers" | "first" | "rest" | "failed", what: string }} Bar ms since the request came */

const OUTCOMES = /** @type {Record<string, "good" | "bad" | "neutral">} */ ({ succeeded: "good", failed: "bad", cancelled: "neutral" });
const LEGEND = [
  ["queue", "Queue"],
  ["headers", "Connect and headers"],
  ["first", "To the first token"],
  ["rest", "Streaming"],
  ["failed", "Failed or cancelled"],
];

/** @param {{ exchange: any }} props */
export function Waterfall({ exchange }) {
  const headers = useHeaders(exchange);
  const attempts = exchange.attempts;
  if (!attempts.length) {
    return html`<${Empty} title=${exchange.response?.from_cache ? "Answered from the cache" : "No provider was asked"}>${exchange.response?.from_cache ? "No attempt was needed." : exchange.status === "in_progress" ? "It waits for a provider." : "It ended before one was chosen."}<//>`;
  }
  const rows = attempts.map((/** @type {any} */ attempt) => ({ attempt, bars: barsOf(attempt, attempt.started_at - exchange.timestamp, headers.get(attempt.number)) }));
  const queue = exchange.response?.queue_ms ?? 0;
  const end = Math.max(1, exchange.response?.duration_ms ?? 0, queue, ...rows.flatMap((/** @type {any} */ { bars }) => bars.map((/** @type {Bar} */ bar) => bar.to)));
  const used = new Set(rows.flatMap((/** @type {any} */ { bars }) => bars.map((/** @type {Bar} */ bar) => bar.kind)));
  if (queue > 0) used.add("queue");
  return html`<div class="stack">
    <div class="waterfall" role="img" aria-label=${`${number(attempts.length)} attempts in ${duration(end)}; the table below has the numbers`}>
      ${queue > 0 && html`<${Line} title="Queue" bars=${[{ from: 0, to: queue, kind: "queue", what: `waited ${duration(queue)}` }]} end=${end} />`}
      ${rows.map((/** @type {any} */ { attempt, bars }) => html`${attempt.resumed_at != null && html`<p class="seam"><span>${attempt.provider_id} goes on after ${number(attempt.resumed_at)} characters</span></p>`}
        <${Line} key=${attempt.number} title=${`${attempt.number}. ${attempt.provider_id}/${attempt.upstream_model}`} bars=${bars} end=${end} />`)}
      <div class="waterfall-scale" aria-hidden="true"><span>0</span><span>${duration(end / 2)}</span><span>${duration(end)}</span></div>
    </div>
    <div class="row small muted">${LEGEND.filter(([kind]) => used.has(kind)).map(([kind, title]) => html`<span key=${kind} class="row nowrap"><span class=${`swatch bar-${kind}`} aria-hidden="true"></span>${title}</span>`)}</div>
    <${Table} caption="Attempts" rows=${attempts} rowKey=${(/** @type {any} */ one) => String(one.number)} columns=${[
      { key: "number", title: "#", align: "right" },
      { key: "target", title: "Target", cell: (/** @type {any} */ one) => html`<code class="breakable target-name">${one.provider_id}/${one.upstream_model}</code>` },
      { key: "began", title: "Began", align: "right", optional: true, cell: (/** @type {any} */ one) => span(`+${duration(Math.max(0, one.started_at - exchange.timestamp))}`) },
      { key: "headers", title: "Headers", align: "right", optional: true, cell: (/** @type {any} */ one) => span(duration(headers.get(one.number))) },
      { key: "first", title: "First token", align: "right", optional: true, cell: (/** @type {any} */ one) => span(duration(one.ttft_ms)) },
      { key: "took", title: "Took", align: "right", cell: (/** @type {any} */ one) => span(duration(one.duration_ms)) },
      { key: "status", title: "Upstream", align: "right", optional: true, cell: (/** @type {any} */ one) => one.upstream_status ?? "–" },
      { key: "outcome", title: "Outcome", cell: (/** @type {any} */ one) => html`<${Badge} tone=${OUTCOMES[one.outcome] ?? "neutral"}>${words(one.outcome)}<//>${one.error && html`<div class="phone-only small request-error breakable">${one.error}</div>`}` },
      { key: "error", title: "Why", optional: true, cell: (/** @type {any} */ one) => html`<span class=${one.error ? "request-error breakable" : ""}>${one.error ?? "–"}</span>` },
    ]} />
    ${exchange.plan && html`<${Plan} plan=${exchange.plan} />`}
  </div>`;
}

/** @param {string} text */
const span = (text) => html`<span class="nowrap">${text}</span>`;

/** @param {{ title: string, bars: Bar[], end: number }} props */
function Line({ title, bars, end }) {
  return html`<div class="waterfall-line"><span class="truncated small" title=${title}>${title}</span>
    <span class="waterfall-track">${bars.map((bar) => html`<span key=${bar.kind} class=${`bar bar-${bar.kind}`} title=${bar.what}
      style=${{ left: `${(bar.from / end) * 100}%`, width: `${Math.max(0.4, ((bar.to - bar.from) / end) * 100)}%` }}></span>`)}</span></div>`;
}

/** @param {any} attempt @param {number} began @param {number | undefined} headers ms from its begin @returns {Bar[]} */
function barsOf(attempt, began, headers) {
  const from = Math.max(0, began);
  const end = from + attempt.duration_ms;
  const at = (/** @type {number} */ ms) => Math.min(end, from + ms);
  /** @type {Bar[]} */
  const bars = [];
  let here = from;
  if (headers !== undefined && headers <= attempt.duration_ms) {
    bars.push({ from: here, to: at(headers), kind: "headers", what: `headers after ${duration(headers)}` });
    here = at(headers);
  }
  if (attempt.ttft_ms !== null) {
    bars.push({ from: here, to: at(attempt.ttft_ms), kind: "first", what: `first token after ${duration(attempt.ttft_ms)}` });
    here = at(attempt.ttft_ms);
  }
  const well = attempt.outcome === "succeeded";
  bars.push({ from: here, to: end, kind: well ? "rest" : "failed", what: well ? `ended after ${duration(attempt.duration_ms)}` : `${attempt.outcome} after ${duration(attempt.duration_ms)}${attempt.error ? `: ${attempt.error}` : ""}` });
  return bars;
}

/** When the upstream's headers came, where that was recorded: by attempt. @param {any} exchange @returns {Map<number, number>} */
function useHeaders(exchange) {
  const [headers, setHeaders] = useState(/** @type {Map<number, number>} */ (new Map()));
  useEffect(() => {
    if (!exchange.has_recording) return;
    const controller = new AbortController();
    api.get(`/api/requests/${segment(exchange.request_id)}/recording`, { signal: controller.signal }).then(
      (recording) => {
        const times = recording.attempts.flatMap((/** @type {any} */ attempt) => {
          const call = attempt.calls.findLast((/** @type {any} */ one) => one.purpose === "completion" && one.response);
          return call ? [[attempt.number, call.response.at_ms]] : [];
        });
        setHeaders(new Map(times));
      },
      // Only a detail is missing then; the tab "Stream" says why.
      () => {},
    );
    return () => controller.abort();
  }, [exchange.request_id, exchange.has_recording]);
  return headers;
}

/** @param {{ plan: any }} props */
function Plan({ plan }) {
  const targets = Array.isArray(plan.targets) ? plan.targets : [];
  const skipped = Array.isArray(plan.skipped) ? plan.skipped : [];
  const rows = [...targets.map((/** @type {any} */ one) => ({ ...one, skipped: false })), ...skipped.map((/** @type {any} */ one) => ({ ...one, skipped: true }))];
  if (!rows.length) return html`<${Code} text=${JSON.stringify(plan, null, 2)} label="Route plan" />`;
  return html`<div class="stack"><h3>Why these targets</h3>
    <p class="muted">${plan.via ? `${plan.via} is a virtual model. ` : ""}Strategy: ${words(plan.strategy).toLowerCase()}${plan.is_guess ? "; nobody lists the model, so it is a guess" : ""}.</p>
    <${Table} caption="Route plan" rows=${rows} rowKey=${(/** @type {any} */ one) => `${one.skipped}${one.target}`} columns=${[
      { key: "place", title: "Place", cell: (/** @type {any} */ one) => (one.skipped ? "–" : one.place) },
      { key: "target", title: "Target", cell: (/** @type {any} */ one) => html`<code class="breakable target-name">${one.target}</code>` },
      { key: "reason", title: "Why", cell: (/** @type {any} */ one) => html`${one.skipped && html`<${Badge} tone="warn">Left out<//> `}${one.reason ?? "–"}` },
    ]} /></div>`;
}
