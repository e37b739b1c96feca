/** @module virtual models and aliases: the list, and where their editor opens */
import { api, request, segment } from "../../lib/api.js";
import { plural } from "../../lib/format.js";
import { TrashIcon } from "../../lib/icons.js";
import { html } from "../../lib/preact.js";
import { param, place, setQuery } from "../../lib/router.js";
import { Badge, Button, Empty, Panel, Table, confirm, toast } from "../../lib/ui.js";
import { VirtualEditor } from "./editor.js";
import { STRATEGIES } from "./strategies.js";

/** @param {{ list: any[], models: any[] }} props */
export function VirtualModels({ list, models }) {
  const edit = (/** @type {string} */ name) => setQuery({ virtual: name, new: null });
  const add = () => setQuery({ new: "1", virtual: null });
  const close = () => setQuery({ new: null, virtual: null });
  const name = place.value.query.has("new") ? null : param("virtual") || undefined;
  const switched = async (/** @type {any} */ one) => {
    await api.patch(`/api/virtual-models/${segment(one.name)}`, { enabled: !one.enabled });
    toast(`${one.name} is ${one.enabled ? "disabled" : "enabled"}`);
  };
  return html`<div class="stack"><${Panel} flush><${Table} caption="Virtual models" rows=${list} rowKey=${(/** @type {any} */ one) => one.name} onRow=${(/** @type {any} */ one) => edit(one.name)}
    empty=${html`<${Empty} title="No virtual models yet" actions=${html`<${Button} kind="primary" onClick=${add}>Make one<//>`}>A name of your own for a list of targets: an alias for one model, a chain of fallbacks, or shares of the traffic. With * it stands for many names.<//>`}
    columns=${[
      { key: "name", title: "Name", cell: (/** @type {any} */ one) => html`<span class="row"><button type="button" class="link mono breakable" onClick=${() => edit(one.name)}>${one.name}</button>${one.name.includes("*") && html`<${Badge} tone="info">wildcard<//>`}${!one.enabled && html`<${Badge}>disabled<//>`}</span>` },
      { key: "targets", title: "Targets", cell: (/** @type {any} */ one) => html`<${Chain} targets=${one.targets} isWeighted=${one.strategy === "weighted"} />` },
      { key: "strategy", title: "Order", optional: true, cell: (/** @type {any} */ { strategy, targets }) => (targets.length === 1 ? html`<span class="muted">alias</span>` : html`<span title=${STRATEGIES[strategy]?.help}>${STRATEGIES[strategy]?.label ?? strategy}</span>`) },
      { key: "do", title: "Actions", hideTitle: true, align: "right", cell: (/** @type {any} */ one) => html`<div class="row nowrap row-end"><span class="optional"><${Button} small kind="ghost" aria-label=${`${one.enabled ? "Disable" : "Enable"} ${one.name}`} onClick=${() => switched(one)}>${one.enabled ? "Disable" : "Enable"}<//></span><${Button} small kind="ghost" label=${`Delete ${one.name}`} onClick=${() => remove(one)}><${TrashIcon} size="15" /><//></div>` },
    ]} /><//>
    ${name !== undefined && html`<${VirtualEditor} key=${name ?? ""} name=${name} models=${models} onClose=${close} />`}
  </div>`;
}

/** @param {{ targets: any[], isWeighted: boolean }} props */
function Chain({ targets, isWeighted }) {
  const sum = targets.reduce((total, { weight }) => total + weight, 0);
  return html`<ol class="chain" aria-label=${plural(targets.length, "target")}>${targets.slice(0, 4).map(({ target, weight }) => html`<li key=${target}><code class="breakable">${target}</code>${isWeighted && html` <span class="muted small">${Math.round((weight / sum) * 100)}%</span>`}</li>`)}${targets.length > 4 && html`<li class="muted">and ${targets.length - 4} more</li>`}</ol>`;
}

/** @param {any} one */
async function remove(one) {
  const path = `/api/virtual-models/${segment(one.name)}`;
  // What was looked at is what goes.
  const { etag } = await request("GET", path);
  if (!(await confirm({ title: `Delete ${one.name}?`, text: "From the next request on, the name means nothing, or the model that is called so.", action: "Delete", danger: true }))) return;
  await api.delete(path, { ifMatch: etag });
  toast(`${one.name} is deleted`);
}
