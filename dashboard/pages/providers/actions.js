/** @module what can be done with a stored provider, from the list and from its own page */
import { api, segment } from "../../lib/api.js";
import { duration, plural } from "../../lib/format.js";
import { html } from "../../lib/preact.js";
import { navigate } from "../../lib/router.js";
import { confirm, toast } from "../../lib/ui.js";

/** @param {{ id: string }} provider */
const pathOf = ({ id }) => `/api/providers/${segment(id)}`;

/** @param {any} provider @param {boolean} enabled */
export async function switchProvider(provider, enabled) {
  await api.post(`${pathOf(provider)}/${enabled ? "enable" : "disable"}`);
  toast(`${provider.name} is ${enabled ? "enabled: the next request can use it" : "disabled: requests under way finish"}`);
}

/** Asks the upstream for its models, or a model for an answer. @param {any} provider @param {{ model?: string, prompt?: string }} [body] @returns {Promise<any>} */
export const test = (provider, body = {}) => api.post(`${pathOf(provider)}/test`, body);

/** One sentence about a test. @param {any} outcome */
export function told(outcome) {
  const took = duration(outcome.duration_ms);
  if (!outcome.healthy) return `${outcome.error?.message ?? "It failed"}${outcome.status ? ` (status ${outcome.status})` : ""}`;
  return outcome.models_count === null ? `It answered in ${took}.` : `It lists ${plural(outcome.models_count, "model")}, in ${took}.`;
}

/** @param {any} provider */
export async function testStored(provider) {
  const outcome = await test(provider);
  if (outcome.healthy) toast(`${provider.name} works. ${told(outcome)}`);
  else toast(`${provider.name} does not work: ${told(outcome)}`, { tone: "bad" });
}

/** @param {any} provider */
export async function syncOne(provider) {
  const { result } = await api.post(`/api/models/sync/${segment(provider.id)}`);
  if (!result.success) return toast(`The models of ${provider.name} could not be listed: ${result.error}`, { tone: "bad" });
  toast(`${provider.name} lists ${plural(result.totalModels, "model")}, ${result.linksAdded} new here`);
}

export async function syncAll() {
  const { totals, results } = await api.post("/api/models/sync");
  const failed = Object.entries(results).filter(([, one]) => !one.success);
  const text = `${totals.successful} of ${plural(totals.providers, "provider")} synced, ${plural(totals.totalLinksAdded, "new model")}`;
  if (failed.length) toast(text, { tone: "bad", hint: failed.map(([id, one]) => `${id}: ${one.error}`).join("; ") });
  else toast(text);
}

/** Asks first; the active one a second time. @param {any} provider @param {string | null} ifMatch */
export async function remove(provider, ifMatch) {
  const text = html`<p>Its key, its settings and its links to models are forgotten. Requests in the history stay. Requests under way finish.</p>`;
  if (!(await confirm({ title: `Delete ${provider.name}?`, text, action: "Delete", danger: true }))) return;
  // Its own page would ask for it once more as it goes.
  navigate("/providers");
  try {
    await api.delete(pathOf(provider), { ifMatch });
  } catch (/** @type {any} */ error) {
    if (error.code !== "provider_active") throw error;
    const more = html`<p>It is the active provider. The next one by priority takes its place.</p>`;
    if (!(await confirm({ title: `Delete ${provider.name} all the same?`, text: more, action: "Delete", danger: true }))) return;
    await api.delete(pathOf(provider), { query: { force: true }, ifMatch });
  }
  toast(`${provider.name} is deleted`);
}
