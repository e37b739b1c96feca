import { date, number, words } from "../../lib/format.js";
import { useList } from "../../lib/list.js";
import { html, useState } from "../../lib/preact.js";
import { param, setQuery } from "../../lib/router.js";
import { Badge, Button, Code, Dialog, Empty, Field, KeyValue, Loaded, Panel, Table, Time } from "../../lib/ui.js";

const ENTITIES = ["provider", "model", "link", "virtual_model", "setting", "credential", "key", "session", "request", "response", "cache", "database", "actor", "proxy"];
const PRINCIPALS = ["local", "admin", "schedule", "discovery"];
const EVENTS = ["settings:updated", "providers:updated", "models:updated", "virtual_models:updated", "credentials:updated", "sessions:updated", "requests:updated", "keys:updated", "cache:updated", "backup:*", "proxy:status", "actor:restarted"];

/** Who changed what. */
export function Audit() {
  const entity = param("entity");
  const principal = param("principal");
  const list = useList("/api/audit", "changes", { query: { entity: entity || null, principal: principal || null }, events: EVENTS });
  const [open, setOpen] = useState(/** @type {any} */ (null));
  const choices = (/** @type {string} */ all, /** @type {string[]} */ known, /** @type {string} */ chosen) => [{ value: "", label: all }, ...(chosen && !known.includes(chosen) ? [chosen] : []).concat(known).map((value) => ({ value, label: words(value) }))];
  return html`<div class="stack">
    <div class="toolbar" role="search" aria-label="Which changes">
      <${Field} name="entity" label="What was changed" type="select" value=${entity} options=${choices("Anything", ENTITIES, entity)} onInput=${(/** @type {string} */ value) => setQuery({ entity: value })} />
      <${Field} name="principal" label="Who did it" type="select" value=${principal} options=${choices("Anybody", PRINCIPALS, principal)} onInput=${(/** @type {string} */ value) => setQuery({ principal: value })} />
    </div>
    <${Panel} flush><${Loaded} of=${list}>${(/** @type {any} */ body) => html`
      <${Table} caption="Changes, newest first" rows=${body.changes} rowKey=${(/** @type {any} */ { id }) => id} onRow=${setOpen}
        empty=${html`<${Empty} title=${entity || principal ? "No change fits" : "Nothing was changed yet"} actions=${(entity || principal) && html`<${Button} onClick=${() => setQuery({ entity: null, principal: null })}>Show all<//>`}>Every change of the configuration and the history is kept here, without secrets.<//>`}
        columns=${[
          { key: "timestamp", title: "When", cell: (/** @type {any} */ one) => html`<span class="nowrap"><${Time} at=${one.timestamp} /></span>` },
          { key: "what", title: "What", cell: (/** @type {any} */ one) => html`<button type="button" class="link link-plain audit-what" title=${one.entity_id ?? undefined} onClick=${() => setOpen(one)}>${words(one.entity)} ${named(one)}</button>` },
          { key: "action", title: "Change", cell: (/** @type {any} */ one) => html`<${Badge} tone=${one.action === "deleted" ? "warn" : "info"}>${words(one.action)}<//>` },
          { key: "difference", title: "Difference", wide: true, optional: true, cell: (/** @type {any} */ one) => html`<span class="mono small">${difference(one)}</span>` },
          { key: "principal", title: "Who", optional: true, cell: (/** @type {any} */ one) => one.principal },
        ]} />
      ${body.next_cursor && html`<div class="list-more"><span class="muted">${number(body.changes.length)} of ${number(body.total)}</span><${Button} onClick=${list.more}>Show more<//></div>`}`}<//><//>
    ${open && html`<${Change} one=${open} onClose=${() => setOpen(null)} />`}
  </div>`;
}

/** @param {{ one: any, onClose: () => void }} props */
function Change({ one, onClose }) {
  return html`<${Dialog} wide title=${`${words(one.entity)} ${one.entity_id ?? ""}: ${one.action}`} onClose=${onClose}>
    <${KeyValue} items=${[["When", date(one.timestamp)], ["Who", one.principal], ["Request", one.request_id && html`<code class="break">${one.request_id}</code>`]]} />
    <div class="grid"><div class="stack"><h3>Before</h3><${Code} text=${json(one.before)} label="Before" wrap /></div><div class="stack"><h3>After</h3><${Code} text=${json(one.after)} label="After" wrap /></div></div>
  <//>`;
}

/** What is called by a made-up id has a name as well. @param {any} one */
const named = (one) => (one.entity === "key" && (one.after?.name ?? one.before?.name)) || (one.entity_id ?? "");

/** @param {any} value */
const json = (value) => (value === null || value === undefined ? "nothing" : JSON.stringify(value, null, 2));
const short = (/** @type {any} */ value) => (value === undefined ? "nothing" : JSON.stringify(value));
const isObject = (/** @type {any} */ value) => typeof value === "object" && value !== null && !Array.isArray(value);

/** What is not the same before and after, in one line. @param {{ before: any, after: any }} change */
export function difference({ before, after }) {
  if (before === null && after === null) return "–";
  if (!isObject(before) || !isObject(after)) return after === null ? short(before) : before === null ? short(after) : `${short(before)} → ${short(after)}`;
  const keys = [...new Set([...Object.keys(before), ...Object.keys(after)])].filter((key) => key !== "updated_at" && short(before[key]) !== short(after[key]));
  return keys.map((key) => `${key}: ${short(before[key])} → ${short(after[key])}`).join(", ") || "no difference";
}
