/** @module making and changing a virtual model */
import { api, request, segment } from "../../lib/api.js";
import { Conflict, useEditing } from "../../lib/editing.js";
import { html, useEffect, useState } from "../../lib/preact.js";
import { Dialog, ErrorState, Field, Form, Loading, toast } from "../../lib/ui.js";
import { OPTIONS, STRATEGIES } from "./strategies.js";
import { Targets } from "./targets.js";

/** @param {{ name: string | null, models: any[], onClose: () => void }} props `name` null: a new one */
export function VirtualEditor({ name, models, onClose }) {
  const [read, setRead] = useState(/** @type {any} */ (name === null ? { model: { name: "", targets: [{ target: "", weight: 1 }], strategy: "priority", description: "", enabled: true }, etag: null, turn: 0 } : null));
  const [failed, setFailed] = useState(/** @type {unknown} */ (null));
  const load = () => request("GET", `/api/virtual-models/${segment(String(name))}`).then(({ data, etag }) => setRead((/** @type {any} */ before) => ({ model: data, etag, turn: (before?.turn ?? 0) + 1 })), setFailed);
  useEffect(() => {
    if (name !== null) void load();
  }, [name]);
  return html`<${Dialog} title=${name === null ? "New virtual model" : `Edit ${name}`} onClose=${onClose}>
    ${failed ? html`<${ErrorState} error=${failed} />` : !read ? html`<${Loading} />` : html`<${EditorForm} key=${read.turn} name=${name} read=${read} models=${models} onReload=${load} onClose=${onClose} />`}
  <//>`;
}

/** @param {{ name: string | null, read: any, models: any[], onReload: () => void, onClose: () => void }} props */
function EditorForm({ name, read, models, onReload, onClose }) {
  const { model, etag } = read;
  const form = useEditing(
    { name: model.name, strategy: model.strategy, description: model.description ?? "", enabled: model.enabled, targets: model.targets.map((/** @type {any} */ one, /** @type {number} */ at) => ({ ...one, key: at })) },
    etag,
    async (values, ifMatch) => {
      const targets = values.targets.map((/** @type {any} */ { target, weight }) => ({ target: target.trim(), weight: weight ?? 1 }));
      const body = { name: values.name.trim(), strategy: values.strategy, description: values.description || null, enabled: values.enabled, targets };
      if (name === null) await api.post("/api/virtual-models", body);
      else await api.put(`/api/virtual-models/${segment(name)}`, body, { ifMatch });
      toast(`${body.name} is saved: the next request can use it`);
      onClose();
    },
  );
  const isWild = form.values.name.includes("*");
  const { values } = form;
  const targets = form.field("targets");
  return html`<${Form} form=${form} onCancel=${onClose} action=${name === null ? "Make it" : "Save"}>
    <${Field} ...${form.field("name")} label="Name" required spellcheck="false" autocomplete="off" placeholder="coder" help=${isWild ? "* stands for any text; an exact name wins over it, and of two the longer." : "What clients send. * stands for any text: gpt-* catches all names that begin so."} />
    <${Field} ...${form.field("strategy")} label="Order" type="select" options=${OPTIONS} help=${STRATEGIES[values.strategy]?.help} />
    <${Targets} targets=${values.targets} isWeighted=${values.strategy === "weighted"} isOrdered=${values.strategy === "priority"} error=${targets.error} models=${models} own=${values.name} onChange=${targets.onInput} />
    <${Field} ...${form.field("description")} label="Note" />
    <${Field} ...${form.field("enabled")} label="Enabled" type="checkbox" />
    <${Conflict} form=${form} onReload=${onReload} />
  <//>`;
}
