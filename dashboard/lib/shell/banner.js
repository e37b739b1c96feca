import { connection } from "../events.js";
import { WarnIcon } from "../icons.js";
import { html } from "../preact.js";
import { gatewayState, status, steer } from "../store.js";
import { Button, Spinner } from "../ui.js";

/** What is wrong, above every page. */
export function Banner() {
  return html`<div role="status" class="banners">${what()}</div>`;
}

function what() {
  if (connection.value === "lost") {
    return html`<div class="banner banner-bad" data-test="lost"><${Spinner} /><p><strong>The connection is lost.</strong> What you see is as of before. Reconnecting by itself…</p></div>`;
  }
  if (gatewayState.value === "stopped") {
    return html`<div class="banner banner-warn" data-test="stopped"><${WarnIcon} /><p><strong>The gateway is stopped.</strong> Clients get no answers.</p><${Button} small kind="primary" onClick=${() => steer("start")}>Start it<//></div>`;
  }
  if (gatewayState.value === "partial") {
    const { providerRouter, qwenProxy } = status.data.value;
    const down = [!providerRouter?.running && "router", !qwenProxy?.running && "Qwen proxy"].filter(Boolean).join(" and ");
    const error = providerRouter?.last_error ?? qwenProxy?.last_error;
    return html`<div class="banner banner-warn" data-test="partial"><${WarnIcon} /><p><strong>The ${down} is down.</strong> ${error && String(error.message ?? error.reason ?? error)}</p><${Button} small kind="primary" onClick=${() => steer("start")}>Start it<//></div>`;
  }
  return null;
}
