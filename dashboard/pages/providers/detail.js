/** @module one provider: how it does, target by target, what it is configured with, and which models it offers */
import { api, segment } from "../../lib/api.js";
import { useCommands } from "../../lib/commands.js";
import { duration, plural, words } from "../../lib/format.js";
import { held, standing } from "../../lib/health.js";
import { RefreshIcon, TrashIcon } from "../../lib/icons.js";
import { html, useState } from "../../lib/preact.js";
import { useResource } from "../../lib/store.js";
import { Badge, Button, Dialog, Empty, Field, Form, KeyValue, Loaded, Page, Panel, StatusDot, Table, Time, confirm, toast, useForm } from "../../lib/ui.js";
import { remove, switchProvider, syncOne, test, testStored, told } from "./actions.js";
import { MASK, labelOf } from "./config.js";
import { EditProvider } from "./edit.js";

/** @param {{ id: string }} props */
export function ProviderDetail({ id }) {
  const one = useResource(`/api/providers/${segment(id)}`, { events: ["providers:updated", "provider:*", "models:updated"], every: 3_000 });
  const [isEdited, setEdited] = useState(false);
  const [isOffering, setOffering] = useState(false);
  const provider = one.data.value;
  useCommands(
    provider
      ? [
          { id: "provider-test", title: `Test ${provider.name}`, group: "Providers", run: () => void testStored(provider).catch(toast.failed) },
          { id: "provider-edit", title: `Edit ${provider.name}`, group: "Providers", run: () => setEdited(true) },
        ]
      : [],
    [provider?.name],
  );
  const actions = provider && html`<${Button} onClick=${() => testStored(provider)}>Test<//>
    <${Button} onClick=${() => syncOne(provider)}><${RefreshIcon} size="15" /> Sync models<//>
    <${Button} onClick=${() => switchProvider(provider, !provider.enabled)}>${provider.enabled ? "Disable" : "Enable"}<//>
    <${Button} kind="primary" onClick=${() => setEdited(true)}>Edit<//>
    <${Button} kind="ghost" label="Delete" onClick=${() => remove(provider, one.etag.value)}><${TrashIcon} size="16" /><//>`;
  const lead = html`<a href="/providers">Providers</a> / <code>${id}</code>${provider?.description ? html`: ${provider.description}` : ""}`;
  return html`<${Page} title=${provider?.name ?? id} lead=${lead} actions=${actions}>
    <${Loaded} of=${one}>${(/** @type {any} */ now) => html`<${State} provider=${now} />
      <${Panel} title="Models used" flush><${Targets} provider=${now} /><//>
      <div class="grid"><${Panel} title="Configuration"><${Configuration} provider=${now} /><//><${Panel} title="Ask it something"><${Ask} provider=${now} /><//></div>
      <${Panel} title="Models" actions=${html`<${Button} small onClick=${() => setOffering(true)}>Add by name<//>`} flush><${Models} provider=${now} /><//>`}<//>
    ${isOffering && html`<${Offer} provider=${provider} onClose=${() => setOffering(false)} />`}
    ${isEdited && html`<${EditProvider} id=${id} onClose=${() => setEdited(false)} />`}
  <//>`;
}

/** @param {{ provider: any }} props */
function State({ provider }) {
  const { health } = provider;
  const { tone, word, why } = standing(provider);
  return html`<div class="cards">
    <div class="card"><div class="card-title">State</div><div class="card-value card-words"><${StatusDot} tone=${tone}>${word}<//></div><div class="card-note">${why}</div></div>
    <div class="card"><div class="card-title">Breaker</div><div class="card-value card-words" data-test="breaker">${words(health.breaker)}</div><div class="card-note">${health.failures_in_row ? `${plural(health.failures_in_row, "failure")} in a row` : health.last_error ? `last failure: ${words(health.last_error).toLowerCase()}` : "no failure in a row"}</div></div>
    <div class="card"><div class="card-title">Under way</div><div class="card-value">${health.in_flight}</div><div class="card-note">${health.waiting ? `${plural(health.waiting, "request waits", "requests wait")} for it` : "none waits"}</div></div>
    <div class="card"><div class="card-title">Lists its models in</div><div class="card-value">${duration(health.latency_ms)}</div><div class="card-note">${health.checked_at ? html`<${Time} at=${health.checked_at} />` : "not asked yet"}</div></div>
  </div>`;
}

/** @param {{ provider: any }} props */
function Targets({ provider }) {
  return html`<${Table} caption="Models used" rows=${provider.health.models} rowKey=${(/** @type {any} */ { model }) => model}
    empty=${html`<${Empty} title="No request went here yet">Each model that is used has a breaker and a latency of its own; they are shown here.<//>`}
    columns=${[
      { key: "model", title: "Model", cell: (/** @type {any} */ { model }) => html`<code class="breakable">${model}</code>` },
      { key: "breaker", title: "State", cell: (/** @type {any} */ node) => html`<${Breaker} node=${node} />` },
      { key: "latency", title: "First token", align: "right", cell: (/** @type {any} */ node) => html`<span class="nowrap">${duration(node.latency_ms)}</span>` },
      { key: "under", title: "Under way", align: "right", optional: true, cell: (/** @type {any} */ node) => node.in_flight },
      { key: "failures", title: "Failures in a row", align: "right", optional: true, cell: (/** @type {any} */ node) => node.failures_in_row },
      { key: "last", title: "Last failure", optional: true, cell: (/** @type {any} */ node) => (node.last_error ? words(node.last_error) : html`<span class="muted">–</span>`) },
    ]} />`;
}

/** @param {{ node: any }} props */
function Breaker({ node }) {
  const kept = held(node);
  return html`<span title=${kept?.why ?? "It is asked as usual."}><${StatusDot} tone=${kept?.tone ?? "good"}>${kept?.word ?? "Healthy"}<//></span>`;
}

/** @param {{ provider: any }} props */
function Configuration({ provider }) {
  const entries = Object.entries(provider.config);
  const shown = (/** @type {any} */ value) => (value === MASK ? html`<span title="It is shown to nobody">•••••••• <span class="muted small">stored</span></span>` : typeof value === "object" && value !== null ? Object.entries(value).map(([name, one]) => html`<div><code>${name}: ${String(one)}</code></div>`) : html`<code>${String(value)}</code>`);
  const items = /** @type {[string, any][]} */ ([["Type", html`<code>${provider.type}</code>`], ["Priority", provider.priority], ["Came from", words(provider.origin)], ...entries.map(([key, value]) => [labelOf(key), shown(value)])]);
  return html`<${KeyValue} items=${items} />`;
}

/** @param {{ provider: any }} props */
function Ask({ provider }) {
  const [outcome, setOutcome] = useState(/** @type {any} */ (null));
  const used = provider.health.models[0]?.model;
  const first = provider.models.find((/** @type {any} */ one) => one.is_default)?.id ?? provider.config.defaultModel ?? used ?? provider.models[0]?.id ?? "";
  const form = useForm({ model: first, prompt: "Say ok." }, async ({ model, prompt }) => {
    setOutcome(null);
    setOutcome(await test(provider, { ...(model ? { model } : {}), prompt }));
  });
  return html`<div class="stack"><${Form} form=${form} action="Ask" kind="plain">
      <div class="fields"><${Field} ...${form.field("model")} label="Model" list="provider-models" spellcheck="false" /><${Field} ...${form.field("prompt")} label="Prompt" /></div>
      <datalist id="provider-models">${provider.models.map((/** @type {any} */ { id }) => html`<option value=${id} />`)}</datalist>
    <//>
    <div role="status">${outcome && html`<div class="inset stack"><p><${Badge} tone=${outcome.healthy ? "good" : "bad"}>${outcome.healthy ? "Works" : "Failed"}<//> ${told(outcome)}</p>${outcome.answer && html`<p class="answer">${outcome.answer}</p>`}</div>`}</div>
    <p class="muted small">It goes straight to this provider, disabled or not, and stays out of the history.</p></div>`;
}

/** @param {{ provider: any }} props */
function Models({ provider }) {
  const path = `/api/providers/${segment(provider.id)}/models`;
  const makeDefault = async (/** @type {any} */ { id }) => {
    await api.put(`${path}/${segment(id)}/default`, {});
    toast(`${id} answers requests to ${provider.name} that name no model`);
  };
  const unlink = async (/** @type {any} */ { id }) => {
    if (!(await confirm({ title: `Take ${id} from ${provider.name}?`, text: "What is known of it here is forgotten. The next sync brings it back when the provider still lists it.", action: "Take it away", danger: true }))) return;
    await api.delete(`${path}/${segment(id)}`);
    toast(`${id} is no longer offered here`);
  };
  return html`<${Table} caption="Models" rows=${provider.models} rowKey=${(/** @type {any} */ { id }) => id}
    empty=${html`<${Empty} title="No models are kept" actions=${html`<${Button} onClick=${() => syncOne(provider)}>Sync models<//>`}>What the provider lists is served all the same. A sync keeps the list, so that it can be looked at and described here.<//>`}
    columns=${[
      { key: "id", title: "Model", cell: (/** @type {any} */ { id, is_default: isDefault }) => html`<span class="row"><a class="mono breakable" href=${`/models?q=${encodeURIComponent(id)}`}>${id}</a>${isDefault && html`<${Badge} tone="info">default<//>`}</span>` },
      { key: "capabilities", title: "Described as", optional: true, cell: (/** @type {any} */ { capabilities }) => html`<span class="row">${capabilities.map((/** @type {string} */ one) => html`<${Badge}>${one}<//>`)}</span>` },
      { key: "do", title: "Actions", hideTitle: true, align: "right", cell: (/** @type {any} */ model) => html`<div class="row nowrap row-end">${!model.is_default && html`<${Button} small kind="ghost" aria-label=${`Make default: ${model.id}`} onClick=${() => makeDefault(model)}>Make default<//>`}<${Button} small kind="ghost" label=${`Take ${model.id} away`} onClick=${() => unlink(model)}><${TrashIcon} size="15" /><//></div>` },
    ]} />`;
}

/** A model that the provider serves but does not list. @param {{ provider: any, onClose: () => void }} props */
function Offer({ provider, onClose }) {
  const form = useForm({ model_id: "" }, async (values) => {
    const id = values.model_id.trim();
    await api.post("/api/models", { id, name: id }).catch((error) => {
      if (error.code === "model_exists") return;
      // The field is called otherwise there.
      error.errors = error.errors.map((/** @type {string} */ one) => one.replace("`id`", "`model_id`"));
      throw error;
    });
    await api.post(`/api/providers/${segment(provider.id)}/models`, { model_id: id });
    toast(`${id} is asked for at ${provider.name}`);
    onClose();
  });
  return html`<${Dialog} title=${`A model of ${provider.name}`} onClose=${onClose}><${Form} form=${form} action="Add it" onCancel=${onClose}>
    <${Field} ...${form.field("model_id")} label="Name" required autofocus spellcheck="false" autocomplete="off" help="As the provider calls it. For one that it serves but does not list." />
  <//><//>`;
}
