/** @module how a client is pointed at the gateway with a key */
import { html, useState } from "../../lib/preact.js";
import { snippets } from "../../lib/snippets.js";
import { settings, status, steer } from "../../lib/store.js";
import { Button, Code, Empty, Panel, Tabs } from "../../lib/ui.js";

/** @param {{ name: string, models?: string[] | null }} props the key, and what it allows */
export function Snippets({ name, models = null }) {
  const [tool, setTool] = useState("curl");
  const now = status.data.value;
  const port = now?.providerRouter.port;
  if (!port) return html`<${Empty} title="The address is known once the gateway runs" actions=${html`<${Button} onClick=${() => steer("start")}>Start the gateway<//>`} />`;
  const exact = models?.find((one) => !one.includes("*"));
  const model = exact ?? settings.data.value?.settings.active_model ?? now.models.items[0]?.id ?? "echo";
  const root = `http://${location.hostname}:${port}`;
  const all = snippets(root, model, name);
  const current = all.find(({ key }) => key === tool) ?? all[0];
  return html`<${Tabs} label="Client" tabs=${all} current=${tool} onChange=${setTool}><div class="stack"><${Code} text=${current.text} label=${`${current.title} snippet`} /><p class="muted">${current.then}</p></div><//>`;
}

export function ClientHelp() {
  return html`<${Panel} title="Point a client at it"><div class="stack"><p class="muted">A key goes where the client wants its API key: as <code>Authorization: Bearer</code>, or as <code>x-api-key</code>.</p><${Snippets} name="qw-YOUR-KEY" /></div><//>`;
}
