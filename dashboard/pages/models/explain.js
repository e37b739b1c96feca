/** @module where a request would go now, and why: asked of the router without sending anything */
import { api } from "../../lib/api.js";
import { on } from "../../lib/events.js";
import { cost, duration, number, words } from "../../lib/format.js";
import { html, useEffect, useState } from "../../lib/preact.js";
import { param, setQuery } from "../../lib/router.js";
import { Badge, Empty, ErrorState, Field, Panel, StatusDot, Time } from "../../lib/ui.js";
import { STRATEGIES } from "./strategies.js";

const WHY = /** @type {Record<string, [("good" | "warn" | "bad" | "neutral" | "info"), string]>} */ ({
  breaker_open: ["bad", "Breaker open"],
  probing: ["warn", "Being tried"],
  resting: ["warn", "Resting"],
  full: ["warn", "Full"],
  limited: ["warn", "At its limit"],
  lacks: ["neutral", "Cannot do it"],
  no_fallback: ["neutral", "Not needed"],
});
/** A picture that every parser takes. */
const DOT = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

/** The question as the router gets it: all of it is in the address. */
function question() {
  const prompt = param("prompt", "Hello there");
  const content = param("image") ? [{ type: "text", text: prompt }, { type: "image_url", image_url: { url: DOT } }] : prompt;
  return {
    ...(param("name") ? { model: param("name") } : {}),
    messages: [{ role: "user", content }],
    ...(param("tools") ? { tools: [{ type: "function", function: { name: "example", parameters: { type: "object", properties: {} } } }] } : {}),
    ...(param("schema") ? { response_format: { type: "json_schema", json_schema: { name: "example", schema: { type: "object" } } } } : {}),
  };
}

/** @param {{ names: string[] }} props */
export function Explain({ names }) {
  const [told, setTold] = useState(/** @type {any} */ (null));
  const [error, setError] = useState(/** @type {unknown} */ (null));
  const body = JSON.stringify(question());
  const alone = param("alone");
  useEffect(() => {
    const controller = new AbortController();
    const ask = () =>
      api.post("/api/route/explain", JSON.parse(body), { query: { no_fallback: alone ? true : null }, signal: controller.signal }).then(
        (now) => (setTold(now), setError(null)),
        (failed) => controller.signal.aborted || (setTold(null), setError(failed)),
      );
    // While somebody types, only the last question is asked.
    const timer = setTimeout(ask, 200);
    const end = on(["provider:*", "providers:updated", "models:updated", "virtual_models:updated", "settings:updated"], ask);
    return () => (clearTimeout(timer), end(), controller.abort());
  }, [body, alone]);
  const flag = (/** @type {string} */ key, /** @type {string} */ label) => html`<${Field} name=${key} type="checkbox" label=${label} value=${Boolean(param(key))} onInput=${(/** @type {boolean} */ yes) => setQuery({ [key]: yes ? "1" : null })} />`;
  return html`<div class="stack"><${Panel} title="A request"><div class="stack">
      <div class="fields"><${Field} name="name" label="Model" value=${param("name")} list="explained-names" spellcheck="false" autocomplete="off" placeholder="Empty: the default" help="Any name: a model, provider/model, a virtual one." onInput=${(/** @type {string} */ name) => setQuery({ name })} />
      <${Field} name="prompt" label="Prompt" value=${param("prompt", "Hello there")} help="Its length counts: a model with too short a context is passed over." onInput=${(/** @type {string} */ prompt) => setQuery({ prompt })} /></div>
      <datalist id="explained-names">${names.map((name) => html`<option value=${name} />`)}</datalist>
      <div class="row checks">${flag("tools", "With tools")}${flag("image", "With an image")}${flag("schema", "Answer by a schema")}${flag("alone", "Without fallbacks")}</div>
    </div><//>
    <div role="status" aria-label="Where it would go">${error ? html`<${Panel}><${ErrorState} error=${error} title="It would go nowhere" /><//>` : told && html`<${Plan} told=${told} />`}</div>
  </div>`;
}

/** @param {{ told: any }} props */
function Plan({ told }) {
  const { needs } = told;
  const wanted = [needs.tools && "tools", needs.vision && "images", needs.structured && "a schema", `about ${number(needs.estimated_tokens)} tokens`].filter(Boolean).join(", ");
  return html`<${Panel} title="Where it would go now"><div class="stack">
    <p>${told.model === told.resolved ? html`<code class="breakable">${told.resolved}</code>` : html`No model is named, so the default is meant: <code class="breakable">${told.resolved}</code>`}${told.via && (told.via === told.resolved ? " is a virtual model" : html` falls to the virtual model <code class="breakable">${told.via}</code>`)}. Targets are tried ${STRATEGIES[told.strategy]?.order ?? words(told.strategy)}${told.fallbacks ? `, ${number(told.attempts)} attempts at most` : ", and only the first"}. It needs ${wanted}.</p>
    ${told.is_guess && html`<p><${Badge} tone="warn">a guess<//> Nobody lists this model: these providers never told what they have.</p>`}
    ${told.targets.length ? html`<ol class="plan" aria-label="Targets, in order">${told.targets.map((/** @type {any} */ one) => html`<li key=${one.target} class="plan-step"><span class="step-number">${one.place}</span><div class="plan-text"><code class="breakable">${one.target}</code><span class="muted">${one.reason}</span></div>
      <span class="muted small right">${one.latency_ms === null ? "" : `first token ${duration(one.latency_ms)}`}${one.cost_microdollars === null ? "" : html`<br />about ${cost(one.cost_microdollars)}`}${one.weight === 1 ? "" : html`<br />weight ${one.weight}`}</span></li>`)}</ol>` : html`<${Empty} title="No target is free now">It would wait for the first that opens.<//>`}
    ${told.skipped.length > 0 && html`<div class="stack"><h3>Passed over</h3><ul class="plan" aria-label="Passed over">${told.skipped.map((/** @type {any} */ one) => {
      const [tone, word] = WHY[one.why] ?? ["neutral", words(one.why)];
      return html`<li key=${one.target} class="plan-step"><div class="plan-text"><code class="breakable">${one.target}</code><span class="muted">${one.reason}${one.last_error ? `; last failure: ${words(one.last_error).toLowerCase()}` : ""}</span></div><span class="right"><${StatusDot} tone=${tone}>${word}<//>${one.until && html`<br /><span class="muted small">open <${Time} at=${one.until} /></span>`}</span></li>`;
    })}</ul></div>`}
    <p class="muted small">Nothing was sent, and nobody's turn was taken.</p>
  </div><//>`;
}
