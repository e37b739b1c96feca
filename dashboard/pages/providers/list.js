/** @module the list of providers */
import { api, segment } from "../../lib/api.js";
import { useCommands } from "../../lib/commands.js";
import { duration } from "../../lib/format.js";
import { firstContent, held, standing } from "../../lib/health.js";
import { PlusIcon, ProvidersIcon } from "../../lib/icons.js";
import { html, useState } from "../../lib/preact.js";
import { navigate, param, place, setQuery } from "../../lib/router.js";
import { useResource } from "../../lib/store.js";
import { Button, Empty, Field, Loaded, Page, Panel, StatusDot, Table, toast } from "../../lib/ui.js";
import { syncAll, switchProvider, testStored } from "./actions.js";
import { AddProvider } from "./add.js";

const SHOWN = [
  { value: "", label: "All" },
  { value: "enabled", label: "Enabled" },
  { value: "disabled", label: "Disabled" },
  { value: "trouble", label: "In trouble" },
];

export function ProviderList() {
  // What no event tells, such as a latency, is asked for every few seconds.
  const list = useResource("/api/providers", { query: { limit: 1000 }, events: ["providers:updated", "provider:*", "models:updated"], every: 5_000 });
  const add = () => setQuery({ add: "1" });
  useCommands([
    { id: "provider-add", title: "Add a provider", group: "Providers", keywords: "new preset", run: () => navigate("/providers?add=1") },
    { id: "provider-sync", title: "Sync the models of all providers", group: "Providers", run: () => void syncAll().catch(toast.failed) },
  ]);
  const actions = html`<${Button} onClick=${syncAll}>Sync all models<//><${Button} kind="primary" onClick=${add}><${PlusIcon} size="16" /> Add a provider<//>`;
  return html`<${Page} title="Providers" lead="Who answers. Requests go to the highest priority that offers the model and is well; the next takes over when it fails." actions=${actions}>
    <${Loaded} of=${list}>${(/** @type {any} */ { providers }) => html`<${Filters} /><${Rows} all=${providers} add=${add} />`}<//>
    ${place.value.query.has("add") && html`<${AddProvider} type=${param("add")} taken=${list.data.value?.providers ?? []} onClose=${() => setQuery({ add: null })} />`}
  <//>`;
}

function Filters() {
  return html`<div class="toolbar" role="search">
    <div class="grow"><${Field} name="q" type="search" label="Find" hideLabel placeholder="Name, id or type" value=${param("q")} onInput=${(/** @type {string} */ q) => setQuery({ q })} /></div>
    <${Field} name="show" type="select" label="Show" hideLabel options=${SHOWN} value=${param("show")} onInput=${(/** @type {string} */ show) => setQuery({ show })} />
  </div>`;
}

/** @param {any} provider */
function isShown(provider) {
  const [q, show] = [param("q").toLowerCase(), param("show")];
  if (q && ![provider.id, provider.name, provider.type].some((text) => text.toLowerCase().includes(q))) return false;
  if (show === "enabled") return provider.enabled;
  if (show === "disabled") return !provider.enabled;
  return show !== "trouble" || standing(provider).isTrouble;
}

/** @param {{ all: any[], add: () => void }} props */
function Rows({ all, add }) {
  const rows = all.filter(isShown);
  const none = all.length
    ? html`<${Empty} title="No provider is like this" actions=${html`<${Button} onClick=${() => setQuery({ q: null, show: null })}>Show all<//>`} />`
    : html`<${Empty} title="No providers yet" icon=${ProvidersIcon} actions=${html`<${Button} kind="primary" onClick=${add}>Add a provider<//>`}>Add a vendor with your key, or a server on this machine.<//>`;
  return html`<${Panel} flush><${Table} caption="Providers" rows=${rows} rowKey=${(/** @type {any} */ { id }) => id} empty=${none}
    sort=${param("sort")} onSort=${(/** @type {string} */ sort) => setQuery({ sort })} onRow=${(/** @type {any} */ { id }) => navigate(`/providers/${segment(id)}`)}
    columns=${[
      { key: "name", title: "Provider", sort: (/** @type {any} */ { name }) => name, cell: (/** @type {any} */ one) => html`<div class="cell-two"><a class="truncated" href=${`/providers/${segment(one.id)}`} title=${one.name}>${one.name}</a><code class="muted truncated">${one.id}</code><span class="phone-only"><${Standing} provider=${one} /></span></div>` },
      { key: "type", title: "Type", optional: true, sort: (/** @type {any} */ { type }) => type, cell: (/** @type {any} */ { type }) => html`<span class="nowrap">${type}</span>` },
      { key: "state", title: "State", optional: true, sort: (/** @type {any} */ one) => standing(one).word, cell: (/** @type {any} */ one) => html`<${Standing} provider=${one} />` },
      { key: "targets", title: "Models used", optional: true, align: "right", cell: (/** @type {any} */ one) => html`<${Used} models=${one.health.models} />` },
      { key: "latency", title: "First token", optional: true, align: "right", sort: firstContent, cell: (/** @type {any} */ one) => html`<span class="nowrap" title="Of its quickest model, as a moving average">${duration(firstContent(one))}</span>` },
      { key: "priority", title: "Priority", optional: true, align: "right", sort: (/** @type {any} */ { priority }) => priority, cell: (/** @type {any} */ one) => html`<${Priority} provider=${one} />` },
      { key: "do", title: "Actions", hideTitle: true, align: "right", cell: (/** @type {any} */ one) => html`<${Actions} provider=${one} />` },
    ]} /><//>`;
}

/** @param {{ provider: any }} props */
export function Standing({ provider }) {
  const { tone, word, why } = standing(provider);
  return html`<span title=${why}><${StatusDot} tone=${tone}>${word}<//></span>`;
}

/** @param {{ models: any[] }} props */
function Used({ models }) {
  const open = models.filter(held).length;
  if (!models.length) return html`<span class="muted">–</span>`;
  return html`<span class=${open ? "target-bad nowrap" : "nowrap"} title=${models.map(({ model, breaker, latency_ms: ms }) => `${model}: ${breaker.replace("_", " ")}, ${duration(ms)}`).join("\n")}>${models.length}${open ? `, ${open} held` : ""}</span>`;
}

/** Changed where it stands: Enter or leaving the field stores it. @param {{ provider: any }} props */
function Priority({ provider }) {
  const [typed, setTyped] = useState(/** @type {string | null} */ (null));
  const store = async () => {
    const wanted = Number(typed);
    setTyped(null);
    if (typed === null || typed.trim() === "" || !Number.isInteger(wanted) || wanted === provider.priority) return;
    await api.put(`/api/providers/${segment(provider.id)}`, { priority: wanted }).then(() => toast(`${provider.name} has priority ${wanted}`), toast.failed);
  };
  return html`<input class="input-number" type="number" step="1" aria-label=${`Priority of ${provider.name}`} value=${typed ?? provider.priority}
    onInput=${(/** @type {any} */ event) => setTyped(event.currentTarget.value)} onBlur=${store}
    onKeyDown=${(/** @type {KeyboardEvent} */ { key, currentTarget }) => {
      if (key === "Escape") setTyped(null);
      if (key === "Enter") /** @type {HTMLElement} */ (currentTarget).blur();
    }} />`;
}

/** @param {{ provider: any }} props */
function Actions({ provider }) {
  const { id, name, enabled } = provider;
  return html`<div class="row nowrap row-end">
    <span class="optional"><${Button} small kind="ghost" aria-label=${`Test ${name}`} title=${`Ask ${id} for its models`} onClick=${() => testStored(provider)}>Test<//></span>
    <${Button} small aria-label=${`${enabled ? "Disable" : "Enable"} ${name}`} onClick=${() => switchProvider(provider, !enabled)}>${enabled ? "Disable" : "Enable"}<//>
  </div>`;
}

