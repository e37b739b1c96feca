/**
 * API: the management API as it describes itself, with search, and questions to try.
 * @module
 */
import { html, useMemo } from "../lib/preact.js";
import { param, place, setQuery } from "../lib/router.js";
import { useResource } from "../lib/store.js";
import { Button, ButtonLink, Empty, Field, Loaded, Page, Panel } from "../lib/ui.js";
import { Method } from "./api/method.js";
import { Operation } from "./api/operation.js";
import { operations } from "./api/spec.js";

/** @typedef {import("./api/spec.js").Operation} Described */

export default function Api() {
  const document = useResource("/api/openapi.json");
  const actions = html`<${ButtonLink} href="/api/docs" target="_blank">Swagger UI<//><${ButtonLink} href="/api/openapi.json" download="qwarden-openapi.json">Download<//>`;
  return html`<${Page} title="API" lead="All that this dashboard does can be done over HTTP. This is the management API of this very gateway." actions=${actions}>
    <${Loaded} of=${document}>${(/** @type {any} */ described) => html`<${Viewer} document=${described} />`}<//>
  <//>`;
}

/** @param {{ document: any }} props */
function Viewer({ document }) {
  const all = useMemo(() => operations(document), [document]);
  const id = place.value.segments[1];
  const wanted = param("q").trim().toLowerCase();
  const found = wanted ? all.filter((one) => wanted.split(/\s+/).every((word) => `${one.method} ${one.path} ${one.summary} ${one.description} ${one.tag}`.toLowerCase().includes(word))) : all;
  const chosen = all.find((one) => one.id === id);
  return html`<div class=${`api${id ? " api-open" : ""}`}>
    <${Panel} class="api-list">
      <div class="stack">
        <${Field} name="q" type="search" label="Search the API" hideLabel placeholder=${`Search ${all.length} operations`} value=${param("q")} onInput=${(/** @type {string} */ q) => setQuery({ q })} />
        ${found.length ? html`<${Index} found=${found} chosen=${id} />` : html`<${Empty} title="No operation fits" actions=${html`<${Button} onClick=${() => setQuery({ q: null })}>Show all<//>`} />`}
      </div>
    <//>
    <div class="api-detail stack">${chosen
      ? html`<${Operation} key=${chosen.id} document=${document} operation=${chosen} />`
      : html`<${Panel}>${id ? html`<${Empty} title="There is no such operation">Choose one from the list.<//>` : html`<${Start} document=${document} />`}<//>`}</div>
  </div>`;
}

/** @param {{ found: Described[], chosen?: string }} props */
function Index({ found, chosen }) {
  const tags = [...new Set(found.map(({ tag }) => tag))].sort();
  const search = param("q") ? `?${new URLSearchParams({ q: param("q") })}` : "";
  return html`<nav aria-label="Operations" class="api-index">${tags.map((tag) => html`<section key=${tag}><h3 class="nav-title">${tag}</h3><ul>
    ${found.filter((one) => one.tag === tag).map(({ id, method, path, summary, deprecated }) => html`<li key=${id}><a href=${`/reference/${id}${search}`} aria-current=${id === chosen ? "page" : undefined} title=${summary}>
      <${Method} method=${method} /><span class=${`mono break${deprecated ? " deprecated" : ""}`}>${path}</span></a></li>`)}
  </ul></section>`)}</nav>`;
}

/** @param {{ document: any }} props */
function Start({ document }) {
  const base = location.origin;
  return html`<div class="stack">
    <h2>${document.info?.title} ${document.info?.version}</h2>
    <p>Bodies are JSON, in and out. Every refusal has the same form: <code>error.message</code>, <code>error.code</code>, the field in <code>error.param</code>, and <code>requestId</code>, which the log has, too.</p>
    <p>Its address is <code>${base}</code>. From other machines it wants <code>authorization: Bearer ADMIN_TOKEN</code>.</p>
    <ul class="plain">
      <li><strong>Pages:</strong> lists take <code>limit</code>, and <code>cursor</code> from <code>next_cursor</code> of the page before.</li>
      <li><strong>Two who change the same:</strong> what has an <code>etag</code> takes <code>if-match</code>, and answers 412 when somebody was faster.</li>
      <li><strong>Sent twice:</strong> <code>idempotency-key</code> makes a repeated <code>POST</code> answer the same.</li>
      <li><strong>Live:</strong> <a href="/reference/get_api_events">/api/events</a> tells what happens, as it happens.</li>
    </ul>
    <p class="muted">Choose an operation from the list. What clients use (OpenAI's API and others) is on the router's port: see the snippets on <a href="/">Home</a>.</p>
  </div>`;
}
