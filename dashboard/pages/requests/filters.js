/**
 * What of the history is shown: all of it in the address, so that a link shows the same.
 * @module
 */
import { CloseIcon } from "../../lib/icons.js";
import { date } from "../../lib/format.js";
import { askable } from "../../lib/model-picker.js";
import { html, useEffect, useRef, useState } from "../../lib/preact.js";
import { param, place, setQuery } from "../../lib/router.js";
import { providers, useShared } from "../../lib/store.js";
import { Button, Field } from "../../lib/ui.js";

/** Kept in the address under the API's names. */
const NAMES = ["q", "status", "model", "provider", "stream", "session_id", "key", "tag", "start_date", "end_date"];
const RANGES = /** @type {Record<string, [string, number]>} */ ({
  "15m": ["Last 15 minutes", 900_000],
  "1h": ["Last hour", 3_600_000],
  "24h": ["Last 24 hours", 86_400_000],
  "7d": ["Last 7 days", 604_800_000],
});
const STATES = { in_progress: "Under way", completed: "Completed", failed: "Failed", client_closed: "Client left", interrupted: "Interrupted" };

/** What the API is asked for, of what the address says. @returns {Record<string, string>} */
export function filtersHere() {
  const { query } = place.value;
  const filters = Object.fromEntries(NAMES.map((name) => [name, query.get(name) ?? ""]).filter(([, value]) => value));
  const range = query.get("range") ?? "";
  // Counted from when it was chosen, or the list would begin anew with every look.
  if (range !== chosen.range) chosen = { range, from: RANGES[range] ? String(Date.now() - RANGES[range][1]) : "" };
  if (chosen.from && !filters.start_date) filters.start_date = chosen.from;
  return filters;
}

let chosen = { range: "", from: "" };

/** Whether anything is left out. */
export function isFiltered() {
  const { query } = place.value;
  return [...NAMES, "range"].some((name) => query.get(name));
}

export function clearFilters() {
  setQuery(Object.fromEntries([...NAMES, "range"].map((name) => [name, null])));
}

/** @param {{ error: any }} props what the API says of the filters */
export function Filters({ error }) {
  useShared(providers);
  useShared(askable);
  const models = askable.data.value?.models ?? [];
  const [more, setMore] = useState(false);
  const known = providers.data.value?.providers ?? [];
  const wrong = (/** @type {string} */ name) => (error?.param === name ? error.message : undefined);
  const select = (/** @type {string} */ name) => ({ name, value: param(name), onInput: (/** @type {string} */ value) => setQuery({ [name]: value || null }) });
  const ranges = [{ value: "", label: "Any time" }, ...Object.entries(RANGES).map(([value, [label]]) => ({ value, label }))];
  return html`<div class="stack request-filters" role="search" aria-label="Filter requests">
    <div class="toolbar">
      <div class="grow"><${Typed} name="q" type="search" label="Search in what was said" placeholder='words, "phrases", begin*' error=${wrong("q")} /></div>
      <${Field} ...${select("status")} type="select" label="Status" options=${[{ value: "", label: "Any" }, ...Object.entries(STATES).map(([value, label]) => ({ value, label }))]} />
      <${Typed} name="model" label="Model" placeholder="any" list="request-models" error=${wrong("model")} />
      <datalist id="request-models">${models.map((/** @type {any} */ { id }) => html`<option key=${id} value=${id}></option>`)}</datalist>
      <${Field} ...${select("provider")} type="select" label="Provider"
        options=${[{ value: "", label: "Any" }, ...options(known.map((/** @type {any} */ one) => ({ value: one.id, label: one.name })), param("provider"))]} />
      <${Field} ...${select("stream")} type="select" label="Answer" options=${[{ value: "", label: "Any" }, { value: "true", label: "Streamed" }, { value: "false", label: "Whole" }]} />
      <${Field} name="range" type="select" label="Time" value=${param("start_date") || param("end_date") ? "custom" : param("range")}
        options=${param("start_date") || param("end_date") ? [...ranges, { value: "custom", label: "Custom" }] : ranges}
        onInput=${(/** @type {string} */ value) => value !== "custom" && setQuery({ range: value || null, start_date: null, end_date: null })} />
      <div class="row filter-buttons"><${Button} onClick=${() => setMore(!more)} aria-expanded=${more ? "true" : "false"}>More<//>
        ${isFiltered() && html`<${Button} kind="ghost" onClick=${clearFilters}>Clear<//>`}</div>
    </div>
    ${more && html`<div class="toolbar">
      <${Typed} name="session_id" label="Session" placeholder="id" /><${Typed} name="key" label="Key" placeholder="id" error=${wrong("key")} /><${Typed} name="tag" label="Tag" placeholder="name or name:value" error=${wrong("tag")} />
      <${Moment} name="start_date" label="From" error=${wrong("start_date")} /><${Moment} name="end_date" label="To" error=${wrong("end_date")} />
    </div>`}
    ${!more && html`<${Chips} />`}
  </div>`;
}

/** What is filtered by, of what has no field in view. */
function Chips() {
  const { query } = place.value;
  const chips = [
    ["session_id", "Session", query.get("session_id")],
    ["key", "Key", query.get("key")],
    ["tag", "Tag", query.get("tag")],
    ["start_date", "From", query.get("start_date") && date(Number(query.get("start_date")))],
    ["end_date", "To", query.get("end_date") && date(Number(query.get("end_date")))],
  ].filter(([, , value]) => value);
  if (!chips.length) return null;
  return html`<div class="row">${chips.map(
    ([name, label, value]) => html`<span key=${name} class="chip"><span class="muted">${label}</span> <span class="mono chip-value">${value}</span>
      <${Button} kind="ghost" small label=${`Remove the filter ${label}`} onClick=${() => setQuery({ [String(name)]: null })}><${CloseIcon} size="14" /><//></span>`,
  )}</div>`;
}

/** A field that changes the address once nobody types any more. @param {{ name: string, label: string, type?: string, placeholder?: string, list?: string, error?: string }} props */
function Typed({ name, label, type = "text", placeholder, list, error }) {
  const here = param(name);
  const [text, setText] = useState(here);
  const timer = useRef(/** @type {number | undefined} */ (undefined));
  const typed = useRef(here);
  useEffect(() => {
    // Changed by a link, by "Clear", or by going back: not by what was typed here.
    if (here !== typed.current) setText((typed.current = here));
  }, [here]);
  useEffect(() => () => clearTimeout(timer.current), []);
  const tell = (/** @type {string} */ value) => {
    typed.current = value.trim();
    setQuery({ [name]: typed.current || null });
  };
  return html`<${Field} name=${name} label=${label} type=${type} value=${text} placeholder=${placeholder} list=${list} error=${error} autocomplete="off" spellcheck=${false}
    onInput=${(/** @type {string} */ value) => {
      setText(value);
      clearTimeout(timer.current);
      timer.current = setTimeout(() => tell(value), 300);
    }}
    onKeyDown=${(/** @type {KeyboardEvent} */ event) => {
      if (event.key !== "Enter") return;
      clearTimeout(timer.current);
      tell(/** @type {HTMLInputElement} */ (event.currentTarget).value);
    }} />`;
}

/** @param {{ name: string, label: string, error?: string }} props */
function Moment({ name, label, error }) {
  const at = Number(param(name));
  const two = (/** @type {number} */ part) => String(part).padStart(2, "0");
  const day = at ? new Date(at) : null;
  const value = day ? `${day.getFullYear()}-${two(day.getMonth() + 1)}-${two(day.getDate())}T${two(day.getHours())}:${two(day.getMinutes())}` : "";
  return html`<${Field} name=${name} label=${label} type="datetime-local" value=${value} error=${error}
    onInput=${(/** @type {string} */ text) => {
      const moment = text ? new Date(text).getTime() : NaN;
      setQuery({ [name]: Number.isNaN(moment) ? null : moment, range: null });
    }} />`;
}

/** The options, and the one that is chosen though it is gone. @param {{ value: string, label: string }[]} all @param {string} chosen */
function options(all, chosen) {
  return chosen && !all.some(({ value }) => value === chosen) ? [...all, { value: chosen, label: chosen }] : all;
}
