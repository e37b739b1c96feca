import { paletteOpen } from "../commands.js";
import { connection } from "../events.js";
import { AutoIcon, MenuIcon, MoonIcon, PlayIcon, SearchIcon, StopIcon, SunIcon } from "../icons.js";
import { html } from "../preact.js";
import { gatewayState, steer } from "../store.js";
import { nextTheme, theme } from "../theme.js";
import { Button, StatusDot, confirm } from "../ui.js";
import { navigationOpen } from "./navigation.js";

const STATES = /** @type {Record<string, ["good" | "warn" | "bad" | "neutral", string]>} */ ({
  running: ["good", "Running"],
  stopped: ["neutral", "Stopped"],
  partial: ["warn", "Partly running"],
});

export function Header() {
  const lost = connection.value === "lost";
  const [tone, words] = lost ? ["bad", "Not reached"] : (STATES[gatewayState.value ?? ""] ?? ["neutral", "Connecting"]);
  const Theme = { auto: AutoIcon, light: SunIcon, dark: MoonIcon }[theme.value];
  const apple = /Mac|iPhone|iPad/.test(navigator.platform);
  return html`<header class="top">
    <button type="button" class="button button-ghost menu" aria-label="Pages" aria-controls="navigation" aria-expanded=${navigationOpen.value ? "true" : "false"} onClick=${() => (navigationOpen.value = !navigationOpen.value)}><${MenuIcon} /></button>
    <a class="brand" href="/" aria-label="qwarden, home"><svg viewBox="0 0 64 64" width="24" height="24" aria-hidden="true"><rect width="64" height="64" rx="14" fill="#3b5bdb"/><path d="M32 12 49 18v13c0 11-7 18-17 22-10-4-17-11-17-22V18z" fill="none" stroke="#fff" stroke-width="4.5" stroke-linejoin="round"/><circle cx="31" cy="31" r="7" fill="none" stroke="#fff" stroke-width="4.5"/><path d="m36 36 7 7" stroke="#fff" stroke-width="4.5" stroke-linecap="round"/></svg><span>qwarden</span></a>
    <div class="gateway" role="group" aria-label="Gateway">
      <span role="status" data-test="gateway"><${StatusDot} tone=${tone} pulse=${tone === "good"}>${words}<//></span>
      ${!lost && gatewayState.value && (gatewayState.value === "running"
        ? html`<${Button} small label="Stop the gateway" onClick=${stop}><${StopIcon} size="14" /><span class="wide-only">Stop</span><//>`
        : html`<${Button} small kind="primary" label="Start the gateway" onClick=${() => steer("start")}><${PlayIcon} size="14" /><span class="wide-only">Start</span><//>`)}
    </div>
    <div class="top-tools">
      <button type="button" class="button search" title="Commands" aria-keyshortcuts="Control+K Meta+K" onClick=${() => (paletteOpen.value = true)}><${SearchIcon} size="15" /><span class="wide-only">Search or do…</span><kbd class="wide-only" aria-hidden="true">${apple ? "⌘" : "Ctrl"} K</kbd></button>
      <button type="button" class="button button-ghost" aria-label=${`Theme: ${theme.value}`} title=${`Theme: ${theme.value}`} onClick=${nextTheme}><${Theme} /></button>
    </div>
  </header>`;
}

async function stop() {
  const text = "Clients get no answers until it is started again. Requests under way may end first. The dashboard stays.";
  if (await confirm({ title: "Stop the gateway?", text, action: "Stop", danger: true })) await steer("stop");
}
