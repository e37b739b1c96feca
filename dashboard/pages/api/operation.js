import { bytes, duration } from "../../lib/format.js";
import { html, useState } from "../../lib/preact.js";
import { Badge, Button, ButtonLink, Code, Field, Panel } from "../../lib/ui.js";
import { Method } from "./method.js";
import { curl, example, inside, resolved, spans, typeOf } from "./spec.js";

/** @typedef {import("./spec.js").Operation} Described */

/** One operation. @param {{ document: any, operation: Described }} props */
export function Operation({ document, operation }) {
  const { method, path, summary, description, deprecated, parameters, body, responses } = operation;
  return html`<${Panel}>
    <div class="stack">
      <div class="api-back"><${ButtonLink} small href="/reference">All operations<//></div>
      <h2 class="api-path"><${Method} method=${method} /><span class="mono break">${path}</span>${deprecated && html`<${Badge} tone="warn">kept for older clients<//>`}</h2>
      <p><${Text} text=${summary} /></p>${description && description !== summary && html`<p class="muted"><${Text} text=${description} /></p>`}
      ${parameters.length > 0 && html`<h3>Parameters</h3><dl class="members">${parameters.map((one) => html`<${Member} key=${`${one.in} ${one.name}`} document=${document} name=${one.name} schema=${one.schema ?? {}} description=${one.description} required=${one.required} note=${one.in} />`)}</dl>`}
      ${body && html`<h3>Body</h3><${Members} document=${document} schema=${body} />`}
    </div>
  <//>
  <${Try} document=${document} operation=${operation} />
  <${Panel} title="Answers"><div class="stack">
      ${responses.map(({ status, description: said, type, schema }) => html`<details key=${status} class="answer" open=${status.startsWith("2")}>
        <summary><${Badge} tone=${status.startsWith("2") ? "good" : "neutral"}>${status === "default" ? "refused" : status}<//> <span>${said || type}</span> ${schema && html`<span class="muted small">${typeOf(document, schema)}</span>`}</summary>
        ${schema && html`<${Members} document=${document} schema=${schema} />`}
      </details>`)}
  </div><//>`;
}

/** @param {{ text: string }} props */
function Text({ text }) {
  return spans(text).map((part, at) => (at % 2 ? html`<code>${part}</code>` : part));
}

/** @param {{ document: any, schema: any, depth?: number }} props */
function Members({ document, schema, depth = 0 }) {
  const now = inside(document, schema);
  if (!now) return html`<p class="muted"><code>${typeOf(document, schema)}</code></p>`;
  return html`<dl class="members">${Object.entries(now.properties).map(([name, one]) => html`<${Member} key=${name} document=${document} name=${name} schema=${one} required=${now.required?.includes(name)} depth=${depth} />`)}</dl>`;
}

/** @param {{ document: any, name: string, schema: any, description?: string, required?: boolean, note?: string, depth?: number }} props */
function Member({ document, name, schema, description, required = false, note, depth = 0 }) {
  const [open, setOpen] = useState(false);
  const now = resolved(document, schema);
  const members = depth < 5 ? inside(document, schema) : null;
  const bounds = [now.minimum !== undefined && `from ${now.minimum}`, now.maximum !== undefined && `to ${now.maximum}`, now.default !== undefined && now.default !== null && `default ${JSON.stringify(now.default)}`].filter(Boolean).join(", ");
  return html`<div><dt><code>${name}</code>${required && html`<span class="required" title="required" aria-label="required">*</span>`}${note && html` <span class="muted small">${note}</span>`}</dt>
    <dd><span class="mono small">${typeOf(document, schema)}</span>${bounds && html` <span class="muted small">${bounds}</span>`}
      ${(description ?? now.description) && html`<p class="muted"><${Text} text=${description ?? now.description} /></p>`}
      ${members && html`<${Button} small kind="ghost" aria-expanded=${open ? "true" : "false"} onClick=${() => setOpen(!open)}>${open ? "Hide members" : "Members"}<span class="sr-only"> of ${name}</span><//>${open && html`<${Members} document=${document} schema=${schema} depth=${depth + 1} />`}`}
    </dd></div>`;
}

/** More of an answer than this is cut off. */
const LONGEST = 200_000;

/** Asks what only reads; for the others there is the command. @param {{ document: any, operation: Described }} props */
function Try({ document, operation }) {
  const { method, path, parameters, body, responses } = operation;
  const [values, setValues] = useState(/** @type {Record<string, string>} */ ({}));
  const [missing, setMissing] = useState(/** @type {string[]} */ ([]));
  const [answer, setAnswer] = useState(/** @type {any} */ (null));
  const isEndless = responses.some(({ type }) => type === "text/event-stream");
  const mayTry = method === "GET" && !isEndless;
  const asked = parameters.filter((one) => ["path", "query"].includes(one.in));
  const target = address(path, asked, values);
  const command = curl(operation, location.origin + target, body ? example(document, body) : null);
  const send = async () => {
    const empty = asked.filter((one) => one.in === "path" && !values[one.name]).map(({ name }) => name);
    setMissing(empty);
    if (empty.length) return;
    const begun = performance.now();
    const response = await fetch(target, { credentials: "same-origin", headers: { accept: "application/json, */*" } });
    const text = await response.text();
    setAnswer({ status: response.status, type: response.headers.get("content-type") ?? "", id: response.headers.get("x-request-id"), took: performance.now() - begun, size: new Blob([text]).size, text: pretty(text) });
  };
  return html`<${Panel} title=${mayTry ? "Try it" : "As a command"}>
    <form class="stack" onSubmit=${(/** @type {Event} */ event) => event.preventDefault()}>
      ${mayTry && asked.length > 0 && html`<div class="fields">${asked.map((one) => html`<${Field} key=${one.name} name=${one.name} label=${one.name} required=${one.in === "path"} value=${values[one.name] ?? ""} error=${missing.includes(one.name) ? "is needed" : undefined}
        placeholder=${typeOf(document, one.schema ?? {})} autocomplete="off" spellcheck="false" onInput=${(/** @type {string} */ value) => setValues({ ...values, [one.name]: value })} />`)}</div>`}
      ${isEndless && html`<p class="muted">It never ends, so it is not tried here. This page's own live updates come from such a stream.</p>`}
      <${Code} text=${isEndless ? command.replace("curl ", "curl -N ") : command} label="Command" wrap />
      ${mayTry && html`<div class="row"><${Button} type="submit" kind="primary" onClick=${send}>Send<//><span class="muted small">Only reads: nothing is changed.</span></div>`}
    </form>
    ${answer && html`<div class="stack api-answer" role="region" aria-label="Answer" aria-live="polite">
      <div class="row"><${Badge} tone=${answer.status < 400 ? "good" : "bad"}>${answer.status}<//><span class="muted small">${answer.type} · ${bytes(answer.size)} · ${duration(answer.took)}${answer.id && html` · <code>${answer.id}</code>`}</span></div>
      <${Code} text=${answer.text} label="Answer" />
    </div>`}
  <//>`;
}

/** @param {string} path @param {any[]} parameters @param {Record<string, string>} values */
function address(path, parameters, values) {
  const filled = path.replace(/\{([^}]+)\}/g, (whole, name) => (values[name] ? encodeURIComponent(values[name]) : whole));
  const query = new URLSearchParams(parameters.filter((one) => one.in === "query" && values[one.name]).map((one) => [one.name, values[one.name]]));
  return filled + (query.size ? `?${query}` : "");
}

/** @param {string} text */
function pretty(text) {
  let shown = text;
  try {
    shown = JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    // Shown as it is.
  }
  return shown.length > LONGEST ? `${shown.slice(0, LONGEST)}\n… cut off here` : shown || "(empty)";
}
