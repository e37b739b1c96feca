/** @module changing a provider, with the types of its configuration, and never over somebody else's change unseen */
import { api, request, segment } from "../../lib/api.js";
import { Conflict, useEditing } from "../../lib/editing.js";
import { html, useEffect, useState } from "../../lib/preact.js";
import { Dialog, ErrorState, Field, Form, Loading, toast } from "../../lib/ui.js";
import { ConfigFields, atFields, fromFields, schemaOf, toFields, useTypes } from "./config.js";

/** @param {{ id: string, onClose: () => void }} props */
export function EditProvider({ id, onClose }) {
  const { types, error } = useTypes();
  const [read, setRead] = useState(/** @type {{ provider: any, etag: string | null, turn: number } | null} */ (null));
  const [failed, setFailed] = useState(/** @type {unknown} */ (null));
  const load = () => request("GET", `/api/providers/${segment(id)}`).then(({ data, etag }) => setRead((before) => ({ provider: data, etag, turn: (before?.turn ?? 0) + 1 })), setFailed);
  useEffect(() => void load(), [id]);
  const wrong = error ?? failed;
  return html`<${Dialog} title=${`Edit ${read?.provider.name ?? id}`} onClose=${onClose}>
    ${wrong ? html`<${ErrorState} error=${wrong} />` : !read || !types ? html`<${Loading} />` : html`<${EditForm} key=${read.turn} provider=${read.provider} etag=${read.etag} types=${types} onReload=${load} onClose=${onClose} />`}
  <//>`;
}

/** @param {{ provider: any, etag: string | null, types: any[], onReload: () => void, onClose: () => void }} props */
function EditForm({ provider, etag, types, onReload, onClose }) {
  const { config: stored } = provider;
  const everything = Object.assign({}, ...types.map((one) => schemaOf(one, stored)));
  const form = useEditing(
    { name: provider.name, type: provider.type, priority: provider.priority, description: provider.description ?? "", ...toFields(everything, stored) },
    etag,
    async (values, ifMatch) => {
      const { config, gone } = fromFields(schemaOf(typeNamed(types, values.type), stored), values, stored);
      const path = `/api/providers/${segment(provider.id)}`;
      try {
        await api.put(path, { name: values.name, type: values.type, priority: values.priority ?? 0, description: values.description || null, config }, { ifMatch });
        for (const key of gone) await api.delete(`${path}/config/${segment(key)}`);
      } catch (error) {
        throw atFields(error);
      }
      toast(`${values.name} is saved: the next request finds it changed`);
      onClose();
    },
  );
  const type = typeNamed(types, form.values.type);
  const known = types.map(({ value, label }) => ({ value, label: `${label} (${value})` }));
  const options = types.some(({ value }) => value === provider.type) ? known : [{ value: provider.type, label: provider.type }, ...known];
  return html`<${Form} form=${form} onCancel=${onClose}>
    <div class="fields"><${Field} ...${form.field("name")} label="Name" required /><${Field} ...${form.field("priority")} label="Priority" type="number" help="The highest is asked first." /></div>
    <${Field} ...${form.field("type")} label="Type" type="select" options=${options} />
    <${ConfigFields} form=${form} schema=${schemaOf(type, stored)} type=${type} />
    <${Field} ...${form.field("description")} label="Note" />
    <${Conflict} form=${form} onReload=${onReload} />
  <//>`;
}

/** @param {any[]} types @param {string} value */
const typeNamed = (types, value) => types.find((one) => one.value === value) ?? null;
