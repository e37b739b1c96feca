/** @module all models that can be asked for, and one of them in detail */
import { api, segment } from "../../lib/api.js";
import { compact, duration, number, plural } from "../../lib/format.js";
import { held } from "../../lib/health.js";
import { ModelsIcon } from "../../lib/icons.js";
import { html } from "../../lib/preact.js";
import { param, setQuery } from "../../lib/router.js";
import { Badge, Button, ButtonLink, CopyButton, Dialog, Empty, Field, KeyValue, Panel, StatusDot, Table, toast } from "../../lib/ui.js";

const ABLE = /** @type {const} */ ([
  ["tools", "tools"],
  ["vision", "images"],
  ["structured", "JSON schemas"],
]);
const KINDS = [
  { value: "", label: "Every kind" },
  { value: "own", label: "Of providers" },
  { value: "virtual", label: "Virtual" },
  { value: "tools", label: "With tools" },
  { value: "vision", label: "With images" },
];

/** What it surely can do, at one of its providers at least. @param {any} model @returns {string[]} */
function able(model) {
  const known = ABLE.filter(([key]) => model.providers.some((/** @type {any} */ at) => at[key])).map(([, word]) => word);
  const told = model.capabilities.filter((/** @type {string} */ one) => !["tools", "vision", "structured_output", "chat", "streaming"].includes(one));
  const listed = [["tools", "tools"], ["vision", "images"], ["structured_output", "JSON schemas"]].filter(([key]) => model.capabilities.includes(key)).map(([, word]) => word);
  return [...new Set([...known, ...listed, ...told])];
}

/** @param {any} model @param {any} all */
const isDefault = (model, all) => model.id === all.default_model;

/** @param {any} model */
function isShown(model) {
  const [q, kind, provider] = [param("q").toLowerCase(), param("kind"), param("provider")];
  if (q && !model.id.toLowerCase().includes(q)) return false;
  if (provider && !model.providers.some((/** @type {any} */ at) => at.provider === provider)) return false;
  if (kind === "own") return !model.is_virtual;
  if (kind === "virtual") return model.is_virtual;
  if (kind === "tools" || kind === "vision") return able(model).includes(kind === "tools" ? "tools" : "images");
  return true;
}

/** @param {{ all: any }} props */
export function AllModels({ all }) {
  const rows = all.models.filter(isShown);
  const providers = [...new Set(all.models.flatMap((/** @type {any} */ { providers: list }) => list.map((/** @type {any} */ { provider }) => provider)))].sort();
  const shown = all.models.find((/** @type {any} */ { id }) => id === param("model"));
  const clear = html`<${Button} onClick=${() => setQuery({ q: null, kind: null, provider: null })}>Show all<//>`;
  const onlyEcho = all.models.length <= 1;
  return html`<div class="stack">
    <div class="toolbar" role="search">
      <div class="grow"><${Field} name="q" type="search" label="Find" hideLabel placeholder="Part of a name" value=${param("q")} onInput=${(/** @type {string} */ q) => setQuery({ q })} /></div>
      <${Field} name="kind" type="select" label="Kind" hideLabel options=${KINDS} value=${param("kind")} onInput=${(/** @type {string} */ kind) => setQuery({ kind })} />
      <${Field} name="provider" type="select" label="Provider" hideLabel options=${[{ value: "", label: "Every provider" }, ...providers]} value=${param("provider")} onInput=${(/** @type {string} */ provider) => setQuery({ provider })} />
    </div>
    ${onlyEcho && html`<${Panel}><${Empty} title="Only the built-in echo can answer" icon=${ModelsIcon} actions=${html`<${ButtonLink} kind="primary" href="/providers?add=1">Add a provider<//><${ButtonLink} href="/credentials">Log in to Qwen<//>`}>Models appear here once a provider lists them.<//><//>`}
    <${Panel} flush><${Table} caption="Models" rows=${rows} rowKey=${(/** @type {any} */ { id }) => id} empty=${html`<${Empty} title="No model is like this" actions=${clear} />`}
      sort=${param("sort")} onSort=${(/** @type {string} */ sort) => setQuery({ sort })} onRow=${(/** @type {any} */ { id }) => setQuery({ model: id })}
      columns=${[
        { key: "id", title: "Name", sort: (/** @type {any} */ { id }) => id, cell: (/** @type {any} */ model) => html`<span class="row"><button type="button" class="link mono breakable" onClick=${() => setQuery({ model: model.id })}>${model.id}</button>${model.is_virtual && html`<${Badge} tone="info">virtual<//>`}${isDefault(model, all) && html`<${Badge} tone="good">default<//>`}</span>` },
        { key: "by", title: "Served by", cell: (/** @type {any} */ model) => html`<${Served} providers=${model.providers} />` },
        { key: "able", title: "Can do", optional: true, cell: (/** @type {any} */ model) => html`<span class="row">${able(model).map((one) => html`<${Badge}>${one}<//>`)}</span>` },
        { key: "context", title: "Context", align: "right", optional: true, sort: (/** @type {any} */ { context_length: length }) => length, cell: (/** @type {any} */ { context_length: length }) => html`<span title=${length === null ? "Nobody tells" : `${number(length)} tokens`}>${compact(length)}</span>` },
        { key: "price", title: "Price in / out", align: "right", optional: true, sort: (/** @type {any} */ model) => cheapest(model)?.input, cell: (/** @type {any} */ model) => html`<span class="nowrap" title="US dollars for a million tokens, at the cheapest">${price(cheapest(model))}</span>` },
      ]} /><//>
    <p class="muted small">Each is also asked for as provider/model, which goes to that provider alone.</p>
    ${shown && html`<${OneModel} model=${shown} all=${all} />`}
  </div>`;
}

/** @param {{ providers: any[] }} props */
function Served({ providers }) {
  const rest = providers.length - 2;
  return html`<span class="row">${providers.slice(0, 2).map(({ provider, health }, at) => {
    const kept = health && held(health);
    return html`<span key=${provider}><span class=${kept ? "target-bad" : ""} title=${kept?.word}>${provider}</span>${at < Math.min(2, providers.length) - 1 ? "," : ""}</span>`;
  })}${rest > 0 && html`<span class="muted" title=${providers.map(({ provider }) => provider).join(", ")}>and ${rest} more</span>`}${!providers.length && html`<span class="muted">nobody now</span>`}</span>`;
}

/** @param {any} model */
function cheapest(model) {
  const known = model.providers.map((/** @type {any} */ at) => at.price).filter(Boolean);
  return known.sort((/** @type {any} */ a, /** @type {any} */ b) => a.input + a.output - b.input - b.output)[0] ?? null;
}

/** @param {any} known */
function price(known) {
  if (!known) return "–";
  const dollars = (/** @type {number} */ amount) => `$${number(amount, amount < 1 && amount > 0 ? 3 : 2)}`;
  return known.input === 0 && known.output === 0 ? "free" : `${dollars(known.input)} / ${dollars(known.output)}`;
}

/** @param {boolean | null} flag */
const said = (flag) => (flag === null ? html`<span class="muted" title="Nobody tells">–</span>` : flag ? "yes" : "no");

/** @param {{ model: any, all: any }} props */
function OneModel({ model, all }) {
  const close = () => setQuery({ model: null });
  const set = async (/** @type {string | null} */ value) => {
    if (value === null) await api.delete("/api/settings/active_model");
    else await api.put("/api/settings/active_model", { value });
    toast(value === null ? "Requests that name no model get the active provider's default" : `Requests that name no model get ${value}`);
  };
  const ours = isDefault(model, all);
  const actions = html`<${ButtonLink} href=${`/chat?model=${segment(model.id)}`}>Chat with it<//>
    <${Button} onClick=${() => setQuery({ tab: "explain", name: model.id, model: null })}>Where would it go?<//>
    ${model.is_virtual && html`<${Button} onClick=${() => setQuery({ tab: "virtual", virtual: model.id, model: null })}>Edit<//>`}
    <${Button} kind=${ours ? "plain" : "primary"} onClick=${() => set(ours ? null : model.id)}>${ours ? "Default no more" : "Make it the default"}<//>`;
  return html`<${Dialog} wide title=${model.id} onClose=${close} footer=${actions}>
    <${KeyValue} items=${[
      ["Clients ask for", html`<span class="row"><code class="breakable">${model.id}</code><${CopyButton} text=${model.id} label="Copy the name" /></span>`],
      ["Kind", model.is_virtual ? "Virtual: it stands for other names" : `Served by ${plural(model.providers.length, "provider")}`],
      ["Can do", able(model).length ? able(model).join(", ") : null],
      ["Context", model.context_length === null ? null : `${number(model.context_length)} tokens`],
      ["Default", ours ? "Yes: requests that name no model get it" : all.default_model ? html`No, that is <code>${all.default_model}</code>` : "No: none is set"],
    ]} />
    <${Table} caption="Who serves it" rows=${model.providers} rowKey=${(/** @type {any} */ { provider }) => provider}
      empty=${html`<${Empty} title="Nobody serves it now">Enable a provider that has it, or change its targets.<//>`}
      columns=${[
        { key: "provider", title: "Provider", cell: (/** @type {any} */ at) => (at.provider === "echo" ? "echo" : html`<a href=${`/providers/${segment(at.provider)}`}>${at.provider}</a>`) },
        { key: "state", title: "State", cell: (/** @type {any} */ { health }) => html`<${StatusDot} tone=${health ? (held(health)?.tone ?? "good") : "neutral"}>${health ? (held(health)?.word ?? "Healthy") : "Not used yet"}<//>` },
        { key: "ttft", title: "First token", align: "right", optional: true, cell: (/** @type {any} */ { health }) => duration(health?.latency_ms) },
        { key: "context", title: "Context", align: "right", optional: true, cell: (/** @type {any} */ { context_length: length }) => compact(length) },
        { key: "output", title: "Longest answer", align: "right", optional: true, cell: (/** @type {any} */ { max_output: most }) => compact(most) },
        ...ABLE.map(([key, title]) => ({ key, title: title[0].toUpperCase() + title.slice(1), optional: true, cell: (/** @type {any} */ at) => said(at[key]) })),
        { key: "price", title: "Price in / out", align: "right", cell: (/** @type {any} */ at) => html`<span class="nowrap">${price(at.price)}</span>` },
      ]} />
  <//>`;
}
