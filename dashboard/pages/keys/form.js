/** @module making and changing a key */
import { api, request, segment } from "../../lib/api.js";
import { Conflict, useEditing } from "../../lib/editing.js";
import { date } from "../../lib/format.js";
import { html, useEffect, useState } from "../../lib/preact.js";
import { Dialog, ErrorState, Field, Form, Loading, toast } from "../../lib/ui.js";

const LIMITS = ["rate_per_minute", "tokens_per_day", "tokens_per_month", "cost_per_day", "cost_per_month"];

/** @param {{ id: string | null, onClose: () => void, onMade: (made: any) => void }} props `id` null: a new one */
export function KeyForm({ id, onClose, onMade }) {
  const [read, setRead] = useState(/** @type {any} */ (id === null ? { key: null, etag: null, turn: 0 } : null));
  const [failed, setFailed] = useState(/** @type {unknown} */ (null));
  const load = () => request("GET", `/api/keys/${segment(String(id))}`).then(({ data, etag }) => setRead((/** @type {any} */ before) => ({ key: data, etag, turn: (before?.turn ?? 0) + 1 })), setFailed);
  useEffect(() => {
    if (id !== null) void load();
  }, [id]);
  const title = id === null ? "Make a key" : read ? `Edit ${read.key.name}` : "Edit the key";
  return html`<${Dialog} title=${title} onClose=${onClose}>
    ${failed ? html`<${ErrorState} error=${failed} />` : !read ? html`<${Loading} />` : html`<${Fields} key=${read.turn} id=${id} read=${read} onReload=${load} onClose=${onClose} onMade=${onMade} />`}
  <//>`;
}

/** The day it ends, as inputs write it; local. @param {number | null} at */
const day = (at) => (at === null ? "" : date(at).slice(0, 10));

/** The end of that day. @param {string} text */
const endOf = (text) => (text ? new Date(`${text}T23:59:59.999`).getTime() : null);

/** @param {{ id: string | null, read: any, onReload: () => void, onClose: () => void, onMade: (made: any) => void }} props */
function Fields({ id, read, onReload, onClose, onMade }) {
  const { key, etag } = read;
  const first = {
    name: key?.name ?? "",
    allowed_models: (key?.allowed_models ?? []).join("\n"),
    expires_at: day(key?.expires_at ?? null),
    disabled: key?.disabled ?? false,
    ...Object.fromEntries(LIMITS.map((name) => [name, key?.[name] ?? null])),
  };
  const form = useEditing(first, etag, async (values, ifMatch) => {
    const names = values.allowed_models.split(/[\n,]/).map((/** @type {string} */ name) => name.trim()).filter(Boolean);
    const body = {
      name: values.name.trim(),
      allowed_models: names.length ? names : null,
      // A day that was not touched keeps its hour.
      expires_at: values.expires_at === first.expires_at ? (key?.expires_at ?? null) : endOf(values.expires_at),
      disabled: values.disabled,
      ...Object.fromEntries(LIMITS.map((name) => [name, values[name]])),
    };
    if (id === null) {
      const made = await api.post("/api/keys", body);
      onClose();
      return onMade(made);
    }
    await api.put(`/api/keys/${segment(id)}`, body, { ifMatch });
    toast(`${body.name} is saved: the next request finds it changed`);
    onClose();
  });
  return html`<${Form} form=${form} onCancel=${onClose} action=${id === null ? "Make it" : "Save"}>
    <${Field} ...${form.field("name")} label="Name" required autofocus placeholder="laptop of Ana" help="Who or what it is for." />
    <${Field} ...${form.field("allowed_models")} label="Allowed models" type="textarea" rows="3" spellcheck="false" placeholder="every model" help="One in a line; groq/* means all that begin so. Empty: every model." />
    <div class="fields"><${Field} ...${form.field("rate_per_minute")} label="Requests per minute" type="number" min="1" placeholder="no limit" /><${Field} ...${form.field("expires_at")} label="Last day" type=${/** @type {any} */ ("date")} help="Empty: it does not end." /></div>
    <fieldset class="budget-fields"><legend>Budgets</legend><div class="fields">
      <${Field} ...${form.field("tokens_per_day")} label="Tokens a day" type="number" min="0" placeholder="no limit" /><${Field} ...${form.field("tokens_per_month")} label="Tokens a month" type="number" min="0" placeholder="no limit" />
      <${Field} ...${form.field("cost_per_day")} label="Dollars a day" type="number" min="0" step="any" placeholder="no limit" /><${Field} ...${form.field("cost_per_month")} label="Dollars a month" type="number" min="0" step="any" placeholder="no limit" />
    </div><p class="help">Days and months are of UTC. Dollars count as far as prices are known.</p></fieldset>
    ${id !== null && html`<${Field} ...${form.field("disabled")} label="Disabled" type="checkbox" help="Its clients are refused until it is enabled again." />`}
    <${Conflict} form=${form} onReload=${onReload} />
  <//>`;
}
