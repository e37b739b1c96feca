/**
 * Models: what can be asked for, the names that stand for others, and where a name would go. The tab and its filters are in the query;
 * `?model=ID` shows one, `?virtual=NAME` (or `?new`) opens the editor.
 * @module
 */
import { useCommands } from "../lib/commands.js";
import { html } from "../lib/preact.js";
import { navigate, param, setQuery } from "../lib/router.js";
import { useResource } from "../lib/store.js";
import { Button, Loaded, Page, Tabs, toast } from "../lib/ui.js";
import { PlusIcon } from "../lib/icons.js";
import { AllModels } from "./models/all.js";
import { Explain } from "./models/explain.js";
import { VirtualModels } from "./models/virtual.js";
import { syncAll } from "./providers/actions.js";

const CHANGES = ["models:updated", "providers:updated", "virtual_models:updated", "settings:updated", "provider:*"];

export default function Models() {
  const all = useResource("/api/route/models", { events: CHANGES, every: 10_000 });
  const virtual = useResource("/api/virtual-models", { query: { limit: 1000 }, events: ["virtual_models:updated"] });
  useCommands([
    { id: "virtual-new", title: "Make a virtual model or an alias", group: "Models", keywords: "new name targets", run: () => navigate("/models?tab=virtual&new=1") },
    { id: "models-explain", title: "Explain where a model goes", group: "Models", keywords: "route why", run: () => navigate("/models?tab=explain") },
  ]);
  const tabs = [
    { key: "all", title: `All${all.data.value ? ` (${all.data.value.models.length})` : ""}` },
    { key: "virtual", title: `Virtual${virtual.data.value ? ` (${virtual.data.value.total})` : ""}` },
    { key: "explain", title: "Where would it go?" },
  ];
  const current = tabs.some(({ key }) => key === param("tab")) ? param("tab") : "all";
  const actions = html`<${Button} onClick=${() => syncAll().then(all.refetch).catch(toast.failed)}>Sync all models<//><${Button} kind="primary" onClick=${() => setQuery({ tab: "virtual", new: "1", virtual: null, model: null })}><${PlusIcon} size="16" /> Virtual model<//>`;
  const names = (all.data.value?.models ?? []).map((/** @type {any} */ { id }) => id);
  return html`<${Page} title="Models" lead="What clients can ask for by name, who serves it, and the names you gave yourself." actions=${actions}>
    <${Tabs} label="Models" tabs=${tabs} current=${current} onChange=${(/** @type {string} */ tab) => setQuery({ tab: tab === "all" ? null : tab, model: null, virtual: null, new: null })}>
      ${current === "all" && html`<${Loaded} of=${all}>${(/** @type {any} */ data) => html`<${AllModels} all=${data} />`}<//>`}
      ${current === "virtual" && html`<${Loaded} of=${virtual}>${(/** @type {any} */ { virtual_models: list }) => html`<${VirtualModels} list=${list} models=${all.data.value?.models ?? []} />`}<//>`}
      ${current === "explain" && html`<${Explain} names=${names} />`}
    <//>
  <//>`;
}
