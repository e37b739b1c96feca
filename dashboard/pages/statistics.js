/**
 * Statistics: what was asked, what it took and what it cost, by model, provider, hour or day.
 * @module
 */
import { csv, download } from "../lib/download.js";
import { compact, cost, date, duration, number, percent } from "../lib/format.js";
import { html, useEffect, useMemo, useState } from "../lib/preact.js";
import { param, setQuery } from "../lib/router.js";
import { useResource } from "../lib/store.js";
import { Button, ButtonLink, Chart, Empty, Field, Loaded, Page, Panel, Table, Tabs } from "../lib/ui.js";
import { RANGES, USUAL, filled, rangeOf } from "./statistics/range.js";

const GROUPS = [
  { key: "model", title: "By model" },
  { key: "provider", title: "By provider" },
  { key: "hour", title: "By hour" },
  { key: "day", title: "By day" },
];

/** @typedef {ReturnType<typeof rangeOf>} Range */

export default function Statistics() {
  const now = useMinute();
  const name = param("range", USUAL);
  const group = GROUPS.some(({ key }) => key === param("group")) ? param("group") : "model";
  const range = rangeOf(name, param("from"), param("to"), now);
  const isBackwards = range.from !== null && range.until !== null && range.from > range.until;
  const query = { start_date: range.from, end_date: range.until, provider: param("provider") || null, model: param("model") || null };
  return html`<${Page} title="Statistics" lead="What was asked, what it took and what it cost. The sums stay when requests are deleted.">
    <${Filters} name=${name} range=${range} error=${isBackwards ? "This day is after the last one." : undefined} />
    ${isBackwards ? null : html`<${Numbers} query=${query} range=${range} group=${group} now=${now} />`}
  <//>`;
}

/** The time, once a minute: ranges that end now go with it. */
function useMinute() {
  const [now, setNow] = useState(Date.now);
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), 60_000);
    return () => clearInterval(timer);
  }, []);
  return now;
}

/** @param {{ name: string, range: Range, error?: string }} props */
function Filters({ name, range, error }) {
  const time = { start_date: range.from, end_date: error ? null : range.until };
  const known = useResource("/api/responses/stats", { query: { ...time, group_by: "provider" }, every: 60_000 }).data.value?.groups ?? [];
  const all = useResource("/api/responses/stats", { query: { ...time, group_by: "model" }, every: 60_000 }).data.value?.groups ?? [];
  const set = (/** @type {string} */ key) => (/** @type {string} */ value) => setQuery({ [key]: value || null });
  return html`<div class="toolbar" role="search" aria-label="What is counted">
    <${Field} name="range" label="Time" type="select" options=${RANGES} value=${name} onInput=${(/** @type {string} */ value) => setQuery({ range: value === USUAL ? null : value, ...(value === "custom" ? {} : { from: null, to: null }) })} />
    ${name === "custom" && html`<${Field} name="from" label="From" type="date" value=${param("from")} error=${error} onInput=${set("from")} /><${Field} name="to" label="To" type="date" value=${param("to")} onInput=${set("to")} />`}
    <${Field} name="provider" label="Provider" type="select" value=${param("provider")} onInput=${set("provider")}
      options=${[{ value: "", label: "All providers" }, ...choices(known.map((/** @type {any} */ { key }) => key), param("provider"))]} />
    <${Field} name="model" label="Model" type="select" value=${param("model")} onInput=${set("model")}
      options=${[{ value: "", label: "All models" }, ...choices(all.map((/** @type {any} */ { key }) => key), param("model"))]} />
  </div>`;
}

/** Those that were asked in this time, and the one that is chosen. @param {string[]} ids @param {string} chosen */
const choices = (ids, chosen) => (chosen && !ids.includes(chosen) ? [chosen, ...ids] : ids);

/** @param {{ query: any, range: Range, group: string, now: number }} props */
function Numbers({ query, range, group, now }) {
  const options = { events: "request:completed", every: 30_000 };
  const overTime = useResource("/api/responses/stats", { query: { ...query, group_by: range.step }, ...options });
  return html`<${Loaded} of=${overTime}>${(/** @type {any} */ sums) =>
    sums.total_responses === 0
      ? html`<${Panel}><${Empty} title="Nothing was asked in this time" actions=${html`<${Button} onClick=${() => setQuery({ range: "all", from: null, to: null, provider: null, model: null })}>Show everything<//><${ButtonLink} href="/chat" kind="primary">Try it in the chat<//>`}>Choose a longer time, or take out a filter.<//><//>`
      : html`<${Cards} sums=${sums} /><${Charts} sums=${sums} range=${range} now=${now} /><${Groups} query=${query} group=${group} options=${options} />`}<//>`;
}

/** @param {{ sums: any }} props */
function Cards({ sums }) {
  const cards = [
    ["Requests", number(sums.total_responses), `${number(sums.attempts)} attempts`],
    ["Succeeded", percent(sums.success_rate), `${number(sums.failed)} failed, ${number(sums.client_closed)} left by the client`],
    ["Tokens", compact(sums.total_tokens), `${compact(sums.total_prompt_tokens)} in, ${compact(sums.total_completion_tokens)} out`],
    ["Cost", cost(sums.cost_microusd), "where prices are known"],
    ["Median duration", duration(sums.p50_duration_ms), `95 % within ${duration(sums.p95_duration_ms)}`],
    ["Time to first token", duration(sums.p50_ttft_ms), `95 % within ${duration(sums.p95_ttft_ms)}`],
  ];
  return html`<div class="cards" data-test="cards">${cards.map(([title, value, note]) => html`<div key=${title} class="card"><div class="card-title">${title}</div><div class="card-value">${value}</div><div class="card-note">${note}</div></div>`)}</div>`;
}

/** @param {{ sums: any, range: Range, now: number }} props */
function Charts({ sums, range, now }) {
  const { times, of } = useMemo(() => {
    const { times: all, at } = filled(range, sums.groups, now);
    /** What nothing was asked for is 0; how long it took is not known. @param {string} key @param {0 | null} [none] */
    const column = (key, none = 0) => at.map((group) => group?.[key] ?? none);
    return {
      times: all,
      of: {
        good: column("completed"), bad: column("failed"), input: column("total_prompt_tokens"), output: column("total_completion_tokens"), cost: column("cost_microusd"),
        p50: column("p50_duration_ms", null), p95: column("p95_duration_ms", null), first50: column("p50_ttft_ms", null), first95: column("p95_ttft_ms", null),
      },
    };
  }, [sums, now]);
  const per = range.step === "hour" ? "per hour" : "per day";
  return html`<section class="grid" aria-label="Over time">
    <${Panel}><${Chart} title=${`Requests ${per}`} times=${times} series=${[{ title: "Succeeded", values: of.good, colour: 1, bars: true }, { title: "Failed", values: of.bad, colour: 3, bars: true }]} format=${compact} /><//>
    <${Panel}><${Chart} title=${`Tokens ${per}`} times=${times} series=${[{ title: "In", values: of.input, colour: 2 }, { title: "Out", values: of.output, colour: 4 }]} format=${compact} /><//>
    <${Panel}><${Chart} title="Duration" times=${times} series=${[{ title: "Median", values: of.p50, colour: 1 }, { title: "95 % within", values: of.p95, colour: 3 }]} format=${duration} /><//>
    <${Panel}><${Chart} title="Time to first token" times=${times} series=${[{ title: "Median", values: of.first50, colour: 2 }, { title: "95 % within", values: of.first95, colour: 6 }]} format=${duration} /><//>
    ${sums.cost_microusd > 0 && html`<${Panel}><${Chart} title=${`Cost ${per}`} times=${times} series=${[{ title: "Cost", values: of.cost, colour: 5, bars: true }]} format=${cost} /><//>`}
  </section>`;
}

/** @param {{ query: any, group: string, options: any }} props */
function Groups({ query, group, options }) {
  const sums = useResource("/api/responses/stats", { query: { ...query, group_by: group }, ...options });
  const actions = html`<${Button} small disabled=${!sums.data.value?.groups.length} onClick=${() => save(group, sums.data.value.groups)}>Download CSV<//>`;
  return html`<${Panel} title="Compared" actions=${actions}>
    <${Tabs} label="Compared" tabs=${GROUPS} current=${group} onChange=${(/** @type {string} */ key) => setQuery({ group: key === "model" ? null : key, sort: null })}>
      <${Loaded} of=${sums}>${(/** @type {any} */ { groups }) => html`<${Compared} group=${group} groups=${groups} />`}<//>
    <//>
  <//>`;
}

/** What a group is called. @param {string} group @param {any} row */
const called = (group, row) => (group === "hour" || group === "day" ? date(Number(row.key)).slice(0, group === "day" ? 10 : 16) : row.key || "none");

/** @param {{ group: string, groups: any[] }} props */
function Compared({ group, groups }) {
  const isTime = group === "hour" || group === "day";
  const most = Math.max(1, ...groups.map(({ total_responses: count }) => count));
  /** @param {string} key @param {string} title @param {(value: any) => string} format @param {boolean} [optional] */
  const column = (key, title, format, optional = true) => ({ key, title, align: "right", optional, sort: (/** @type {any} */ row) => row[key], cell: (/** @type {any} */ row) => html`<span class="nowrap">${format(row[key])}</span>` });
  return html`<${Table} caption="Compared" rows=${isTime ? [...groups].reverse() : groups} rowKey=${(/** @type {any} */ { key }) => key} sort=${param("sort", isTime ? "" : "-total_responses")} onSort=${(/** @type {string} */ sort) => setQuery({ sort })}
    columns=${[
      { key: "key", title: isTime ? "Time" : group === "model" ? "Model" : "Provider", sort: (/** @type {any} */ row) => (isTime ? Number(row.key) : row.key), cell: (/** @type {any} */ row) => (isTime ? html`<span class="nowrap">${called(group, row)}</span>` : html`<a class="break statistics-name" href=${`/requests?${group}=${encodeURIComponent(row.key)}`}>${called(group, row)}</a>`) },
      { key: "total_responses", title: "Requests", sort: (/** @type {any} */ row) => row.total_responses, cell: (/** @type {any} */ row) => html`<div class="row nowrap"><div class="meter optional" aria-hidden="true"><span style=${{ width: `${(row.total_responses / most) * 100}%` }}></span></div>${number(row.total_responses)}</div>` },
      column("success_rate", "Succeeded", percent, false),
      column("total_prompt_tokens", "Tokens in", compact),
      column("total_completion_tokens", "Tokens out", compact),
      column("cost_microusd", "Cost", cost),
      column("p50_duration_ms", "Duration", duration),
      column("p95_duration_ms", "95 % within", duration),
      column("p50_ttft_ms", "First token", duration),
    ]} />`;
}

const COLUMNS = ["total_responses", "completed", "failed", "client_closed", "attempts", "success_rate", "total_prompt_tokens", "total_completion_tokens", "total_cached_tokens", "total_reasoning_tokens", "total_tokens", "cost_microusd", "avg_duration_ms", "p50_duration_ms", "p95_duration_ms", "p99_duration_ms", "p50_ttft_ms", "p95_ttft_ms", "p99_ttft_ms"];

/** @param {string} group @param {any[]} groups */
function save(group, groups) {
  const isTime = group === "hour" || group === "day";
  const rows = groups.map((row) => [isTime ? new Date(Number(row.key)).toISOString() : String(row.key), ...COLUMNS.map((key) => row[key])]);
  download(`qwarden-by-${group}.csv`, csv([group, ...COLUMNS], rows), "text/csv");
}
