/**
 * Keys: what clients identify themselves with, what each may use, and how much it did. `?new` opens the form, `?key=ID` one key.
 * @module
 */
import { api, request, segment } from "../lib/api.js";
import { useCommands } from "../lib/commands.js";
import { number, plural } from "../lib/format.js";
import { KeysIcon, PlusIcon, TrashIcon } from "../lib/icons.js";
import { html, useState } from "../lib/preact.js";
import { navigate, param, place, setQuery } from "../lib/router.js";
import { settings, useResource, useShared } from "../lib/store.js";
import { Badge, Button, Empty, Loaded, Page, Panel, StatusDot, Table, Time, confirm, toast } from "../lib/ui.js";
import { ClientHelp } from "./keys/client.js";
import { KeyForm } from "./keys/form.js";
import { MadeKey } from "./keys/made.js";
import { Budget, limitsOf } from "./keys/usage.js";

export default function Keys() {
  const keys = useResource("/api/keys", { query: { limit: 1000 }, events: ["keys:updated", "request:completed"], every: 30_000 });
  useShared(settings);
  const [made, setMade] = useState(/** @type {any} */ (null));
  useCommands([{ id: "key-new", title: "Make a key", group: "Keys", keywords: "api client token new", run: () => navigate("/keys?new=1") }]);
  const close = () => setQuery({ new: null, key: null });
  const isNew = place.value.query.has("new");
  const add = () => setQuery({ new: "1", key: null });
  const actions = html`<${Button} kind="primary" onClick=${add}><${PlusIcon} size="16" /> Make a key<//>`;
  return html`<${Page} title="Keys" lead="A key tells clients apart: which models each may ask for, how often, and how much it may use." actions=${actions}>
    <${Needed} />
    <${Loaded} of=${keys}>${(/** @type {any} */ { keys: list }) => html`<${Rows} list=${list} add=${add} />`}<//>
    <${ClientHelp} />
    ${(isNew || param("key")) && html`<${KeyForm} key=${param("key")} id=${isNew ? null : param("key")} onClose=${close} onMade=${setMade} />`}
    ${made && html`<${MadeKey} made=${made} onClose=${() => setMade(null)} />`}
  <//>`;
}

/** From where a key is wanted. */
function Needed() {
  const wanted = settings.data.value?.settings["auth.requireKeys"];
  if (!wanted) return null;
  const text = { never: "No client is asked for a key: limits and budgets are not kept.", always: "Every client needs a key.", remote: "Clients on other machines need a key. Those on this machine need none, and what they use is not counted." }[/** @type {string} */ (wanted)];
  return html`<p class="muted">${wanted === "never" && html`<${Badge} tone="warn">Keys are off<//> `}${text} <a href="/settings?q=auth.requireKeys">Change that</a></p>`;
}

/** @param {any} key @returns {["good" | "neutral" | "bad", string]} */
function stateOf(key) {
  if (key.disabled) return ["neutral", "Disabled"];
  if (key.expires_at !== null && key.expires_at <= Date.now()) return ["bad", "Ended"];
  return limitsOf(key).some(({ used, most }) => used >= most) ? ["bad", "Budget used up"] : ["good", "Active"];
}

/** @param {{ list: any[], add: () => void }} props */
function Rows({ list, add }) {
  const open = (/** @type {any} */ { id }) => setQuery({ key: id, new: null });
  return html`<${Panel} flush><${Table} caption="Keys" rows=${list} rowKey=${(/** @type {any} */ { id }) => id} onRow=${open} sort=${param("sort")} onSort=${(/** @type {string} */ sort) => setQuery({ sort })}
    empty=${html`<${Empty} title="No keys yet" icon=${KeysIcon} actions=${html`<${Button} kind="primary" onClick=${add}>Make a key<//>`}>Make one for each client or person: it can be limited and taken back by itself.<//>`}
    columns=${[
      { key: "name", title: "Key", sort: (/** @type {any} */ { name }) => name, cell: (/** @type {any} */ key) => html`<div class="cell-two cell-slim"><button type="button" class="link link-plain truncated" title=${key.name} onClick=${() => open(key)}>${key.name}</button><code class="muted truncated">${key.prefix}…</code><span class="phone-only"><${State} of=${key} /></span></div>` },
      { key: "state", title: "State", optional: true, cell: (/** @type {any} */ key) => html`<${State} of=${key} />` },
      { key: "models", title: "Models", optional: true, cell: (/** @type {any} */ { allowed_models: allowed }) => (allowed === null ? "all" : html`<span title=${allowed.join("\n")}>${allowed.length === 1 ? html`<code>${allowed[0]}</code>` : plural(allowed.length, "name")}</span>`) },
      { key: "rate", title: "Rate", optional: true, align: "right", cell: (/** @type {any} */ { rate_per_minute: rate }) => html`<span class="nowrap">${rate === null ? "no limit" : `${number(rate)}/min`}</span>` },
      { key: "used", title: "Used", cell: (/** @type {any} */ key) => html`<${Budget} of=${key} />` },
      { key: "last", title: "Last used", optional: true, sort: (/** @type {any} */ { last_used_at: at }) => at, cell: (/** @type {any} */ { last_used_at: at }) => (at === null ? html`<span class="muted">never</span>` : html`<span class="nowrap"><${Time} at=${at} /></span>`) },
      { key: "do", title: "Actions", hideTitle: true, align: "right", cell: (/** @type {any} */ key) => html`<div class="row nowrap row-end"><span class="optional"><${Button} small kind="ghost" aria-label=${`${key.disabled ? "Enable" : "Disable"} ${key.name}`} onClick=${() => switched(key)}>${key.disabled ? "Enable" : "Disable"}<//></span><${Button} small kind="ghost" label=${`Revoke ${key.name}`} onClick=${() => revoke(key)}><${TrashIcon} size="15" /><//></div>` },
    ]} /><//>`;
}

/** @param {{ of: any }} props */
function State({ of }) {
  const [tone, word] = stateOf(of);
  const ends = of.expires_at !== null && of.expires_at > Date.now();
  return html`<${StatusDot} tone=${tone}>${word}<//>${ends && html`<br /><span class="muted small">ends <${Time} at=${of.expires_at} /></span>`}`;
}

/** @param {any} key */
async function switched(key) {
  await api.put(`/api/keys/${segment(key.id)}`, { disabled: !key.disabled });
  toast(`${key.name} is ${key.disabled ? "enabled" : "disabled, from the next request on"}`);
}

/** @param {any} key */
async function revoke(key) {
  const path = `/api/keys/${segment(key.id)}`;
  const { etag } = await request("GET", path);
  if (!(await confirm({ title: `Revoke ${key.name}?`, text: html`<p>Clients with the key <code>${key.prefix}…</code> are refused from the next request on. It cannot be brought back.</p>`, action: "Revoke", danger: true }))) return;
  await api.delete(path, { ifMatch: etag });
  toast(`${key.name} is revoked`);
}
