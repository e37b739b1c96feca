/**
 * A new provider: a preset, what it needs, and a test before it is used. It is stored disabled, tested, and enabled when it works.
 * @module
 */
import { api, segment } from "../../lib/api.js";
import { CheckIcon, SearchIcon, WarnIcon } from "../../lib/icons.js";
import { html, useEffect, useState } from "../../lib/preact.js";
import { navigate, setQuery } from "../../lib/router.js";
import { Button, Dialog, Empty, ErrorState, Field, Form, Loading, Spinner, toast, useForm } from "../../lib/ui.js";
import { switchProvider, test, told } from "./actions.js";
import { ConfigFields, atFields, fromFields, schemaOf, toFields, useTypes } from "./config.js";

/** @param {{ type: string, taken: any[], onClose: () => void }} props */
export function AddProvider({ type, taken, onClose }) {
  const { types, error } = useTypes();
  const chosen = types?.find(({ value }) => value === type);
  const title = chosen ? `Add ${chosen.label}` : "Add a provider";
  return html`<${Dialog} title=${title} wide=${!chosen} onClose=${onClose}>
    ${error ? html`<${ErrorState} error=${error} />` : !types ? html`<${Loading} />` : chosen ? html`<${Steps} key=${type} type=${chosen} taken=${taken} />` : html`<${Presets} types=${types} />`}
  <//>`;
}

/** @param {{ types: any[] }} props */
function Presets({ types }) {
  const [q, setQ] = useState("");
  useEffect(() => /** @type {HTMLElement | null} */ (document.querySelector("dialog [name=preset]"))?.focus(), []);
  const fits = (/** @type {any} */ { value, label, description }) => `${value} ${label} ${description}`.toLowerCase().includes(q.trim().toLowerCase());
  // Two rows of the list mean the same server; the built-in echo needs no row.
  const shown = types.filter((one) => !["echo", "generic-openai"].includes(one.value) && fits(one));
  const groups = /** @type {[string, any[]][]} */ ([
    ["On this machine", shown.filter(({ local }) => local)],
    ["Vendors", shown.filter((one) => !one.local && !one.requiredConfig.includes("baseURL"))],
    ["Any other server", shown.filter((one) => !one.local && one.requiredConfig.includes("baseURL"))],
  ]);
  return html`<${Field} name="preset" type="search" label="Find a preset" hideLabel placeholder="Find a vendor or a server" value=${q} onInput=${setQ} />
    ${!shown.length && html`<${Empty} title="No preset is called so" icon=${SearchIcon} actions=${html`<${Button} onClick=${() => setQuery({ add: "openai-compatible" })}>Use its address<//>`}>Most servers speak OpenAI's format: its address is enough.<//>`}
    ${groups.filter(([, list]) => list.length).map(
      ([name, list]) => html`<section key=${name} class="stack presets-group"><h3>${name}</h3><div class="presets">
        ${list.map(({ value, label, description }) => html`<button key=${value} type="button" class="preset" onClick=${() => setQuery({ add: value })}><strong>${label}</strong><span class="muted small">${description}</span></button>`)}
      </div></section>`,
    )}`;
}

/** What is free, beginning with `wanted`. @param {string} wanted @param {string[]} used */
function free(wanted, used) {
  let [name, count] = [wanted, 1];
  while (used.includes(name)) name = `${wanted}-${++count}`;
  return name;
}

/** @param {{ type: any, taken: any[] }} props */
function Steps({ type, taken }) {
  useEffect(() => /** @type {HTMLElement | null} */ (document.querySelector("dialog form input:placeholder-shown, dialog form input"))?.focus(), []);
  const schema = schemaOf(type, {});
  const [stored, setStored] = useState(/** @type {any} */ (null));
  const [outcome, setOutcome] = useState(/** @type {any} */ (null));
  const [stage, setStage] = useState(/** @type {"form" | "testing" | "tested"} */ ("form"));
  const [first] = useState(() => ({
    id: free(type.value.replace(/[^a-z0-9-]/g, "-"), taken.map(({ id }) => id)),
    name: free(type.label, taken.map(({ name }) => name)),
    priority: 0,
    ...toFields(schema, {}),
  }));
  const form = useForm(first, async (values) => {
    const { config, gone } = fromFields(schema, values, stored?.config ?? {});
    const body = { name: values.name, priority: values.priority ?? 0, config };
    let now;
    try {
      // The second time round it is there already: the first test failed and the form was corrected.
      now = stored ? await api.put(`/api/providers/${segment(stored.id)}`, body) : await api.post("/api/providers", { ...body, id: values.id, type: type.value, enabled: false });
      for (const key of gone) await api.delete(`/api/providers/${segment(now.id)}/config/${segment(key)}`);
    } catch (error) {
      throw atFields(error);
    }
    setStored(now);
    setStage("testing");
    const found = await test(now).catch((error) => ({ healthy: false, error: { message: error.message }, duration_ms: 0 }));
    setOutcome(found);
    setStage("tested");
    if (found.healthy) await switchProvider(now, true);
  });
  if (stage === "testing") return html`<div class="state" role="status"><${Spinner} /><h3>Asking ${stored.name} for its models…</h3><p class="muted">It may take up to half a minute.</p></div>`;
  if (stage === "tested") return html`<${Tested} provider=${stored} outcome=${outcome} onBack=${() => setStage("form")} />`;
  return html`<p class="muted">${type.description}.${type.value === "qwen-direct" && html` It uses the login of <a href="/credentials">Credentials</a>.`}</p>
    <${Form} form=${form} action="Test and add" extra=${!stored && html`<${Button} kind="ghost" onClick=${() => setQuery({ add: "1" })}>Other preset<//>`}>
      <div class="fields"><${Field} ...${form.field("name")} label="Name" required /><${Field} ...${form.field("id")} label="Id" required readonly=${Boolean(stored)} spellcheck="false" help="Clients write id/model to mean this provider." /></div>
      <${ConfigFields} form=${form} schema=${schema} type=${type} />
      <${Field} ...${form.field("priority")} label="Priority" type="number" help="The highest that offers a model is asked first." />
    <//>`;
}

/** @param {{ provider: any, outcome: any, onBack: () => void }} props */
function Tested({ provider, outcome, onBack }) {
  const open = () => navigate(`/providers/${segment(provider.id)}`);
  if (outcome.healthy) {
    return html`<div class="state state-good" role="status"><${CheckIcon} size="28" /><h3>${provider.name} works</h3><p>${told(outcome)} It is enabled: the next request can use it.</p>
      <div class="actions"><${Button} onClick=${() => setQuery({ add: null })}>Done<//><${Button} kind="primary" autofocus onClick=${open}>Show it<//></div></div>`;
  }
  const drop = async () => {
    await api.delete(`/api/providers/${segment(provider.id)}`);
    toast(`${provider.name} is not kept`);
    setQuery({ add: null });
  };
  const useIt = async () => {
    await switchProvider(provider, true);
    open();
  };
  return html`<div class="state state-bad" role="alert"><${WarnIcon} size="28" /><h3>${provider.name} did not answer as hoped</h3><p>${told(outcome)}</p><p class="muted">${advice(outcome)} It is stored, but disabled.</p>
    <div class="actions"><${Button} kind="danger" onClick=${drop}>Do not keep it<//><${Button} onClick=${useIt}>Enable it all the same<//><${Button} kind="primary" autofocus onClick=${onBack}>Correct it<//></div></div>`;
}

/** @param {any} outcome */
function advice({ status }) {
  if (status === 401 || status === 403) return "The key is not taken: look whether it is whole, and of this vendor.";
  if (status === 404) return "There is no API at this address: it often ends in /v1.";
  if (status === 429) return "It has too much to do, or your account is empty.";
  return "Look whether the address is right and the server runs.";
}
