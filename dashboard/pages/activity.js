/**
 * Activity: what happens, as it happens, and who changed what.
 * @module
 */
import { segment } from "../lib/api.js";
import { ending } from "../lib/completion.js";
import { duration, number, words } from "../lib/format.js";
import { html, useEffect, useState } from "../lib/preact.js";
import { param, setQuery } from "../lib/router.js";
import { useResource } from "../lib/store.js";
import { Badge, Button, Empty, Field, Loaded, Page, Panel, Tabs, Time } from "../lib/ui.js";
import { Audit } from "./activity/audit.js";

const TABS = [{ key: "feed", title: "What happened" }, { key: "audit", title: "Audit log" }];
const LIMIT = 500;

/** How kinds are called; others as they are. */
const KINDS = /** @type {Record<string, string>} */ ({ api_request: "Requests", actor_restarted: "Restarts", proxy_status: "Start and stop", providers_updated: "Providers", models_updated: "Models", settings_updated: "Settings", credentials_updated: "Credentials", sessions_updated: "Sessions", keys_updated: "Keys", virtual_models_updated: "Virtual models", requests_updated: "History", cache_updated: "Answer cache", backup_finished: "Backups", backup_failed: "Failed backups", import_finished: "Imports" });
const nameOf = (/** @type {string} */ kind) => KINDS[kind] ?? words(kind.replace(/_updated$/, ""));

export default function Activity() {
  const tab = param("tab") === "audit" ? "audit" : "feed";
  return html`<${Page} title="Activity" lead="Requests, changes, starts and restarts, the newest first.">
    <${Tabs} label="Activity" tabs=${TABS} current=${tab} onChange=${(/** @type {string} */ key) => setQuery({ tab: key === "feed" ? null : key, types: null, q: null, entity: null, principal: null })}>
      ${tab === "audit" ? html`<${Audit} />` : html`<${Feed} />`}
    <//>
  <//>`;
}

function Feed() {
  const recent = useResource("/api/activity/recent", { query: { limit: LIMIT }, events: "*", every: 5_000 });
  return html`<${Loaded} of=${recent}>${(/** @type {any} */ { activities }) => html`<${Filtered} all=${activities} />`}<//>`;
}

/** @param {{ all: any[] }} props */
function Filtered({ all }) {
  const chosen = param("types").split(",").filter(Boolean);
  const wanted = param("q").trim().toLowerCase();
  const counts = new Map([...chosen.map((kind) => /** @type {[string, number]} */ ([kind, 0]))]);
  for (const { type } of all) counts.set(type, (counts.get(type) ?? 0) + 1);
  const shown = all.filter((one) => (!chosen.length || chosen.includes(one.type)) && (!wanted || `${one.description} ${one.action} ${JSON.stringify(one.metadata)}`.toLowerCase().includes(wanted)));
  const toggle = (/** @type {string} */ kind) => {
    const next = chosen.includes(kind) ? chosen.filter((one) => one !== kind) : [...chosen, kind];
    setQuery({ types: next.join(",") });
  };
  if (!all.length) return html`<${Panel}><${Empty} title="Nothing has happened yet">Requests, changes and restarts appear here by themselves.<//><//>`;
  return html`<div class="stack">
    <div class="toolbar" role="search" aria-label="What is shown">
      <div class="grow"><${Field} name="q" type="search" label="Search" hideLabel placeholder="Search in the last ${LIMIT}" value=${param("q")} onInput=${(/** @type {string} */ q) => setQuery({ q })} /></div>
      <div class="row" role="group" aria-label="Kinds">${[...counts].sort(([a], [b]) => nameOf(a).localeCompare(nameOf(b))).map(([kind, count]) => html`<${Button} key=${kind} small aria-pressed=${chosen.includes(kind) ? "true" : "false"} onClick=${() => toggle(kind)}>${nameOf(kind)} <span class="muted">${number(count)}</span><//>`)}</div>
    </div>
    <${Panel} flush>${shown.length
      ? html`<ol class="feed" aria-label="What happened, newest first">${shown.map((one) => html`<${Entry} key=${one.id} one=${one} />`)}</ol>`
      : html`<${Empty} title="Nothing fits" actions=${html`<${Button} onClick=${() => setQuery({ types: null, q: null })}>Show all<//>`} />`}<//>
  </div>`;
}

/** @param {{ one: any }} props */
function Entry({ one }) {
  const { type, action, description, metadata = {}, timestamp_ms: at } = one;
  const isNew = useNew(at);
  const tone = ["failed", "error"].includes(action) ? "bad" : ["restarted", "deleted", "stopped"].includes(action) ? "warn" : ["completed", "running", "created", "started"].includes(action) ? "good" : "info";
  const notes = [metadata.provider, metadata.duration_ms !== undefined && metadata.duration_ms !== null && duration(metadata.duration_ms), ending(metadata.finish_reason), metadata.reason].filter(Boolean).map(String);
  const to = link(type, metadata);
  return html`<li class=${`feed-entry${isNew ? " flash" : ""}`}>
    <${Badge} tone=${tone}>${words(action)}<//>
    <div class="feed-words"><span>${to ? html`<a href=${to}>${description}</a>` : description}</span>
      ${metadata.error && html`<span class="actor-failed small">${String(metadata.error)}</span>`}
      ${notes.length > 0 && html`<span class="muted small">${notes.join(" · ")}</span>`}
    </div>
    <span class="muted small nowrap"><${Time} at=${at} /></span>
  </li>`;
}

/** It came just now. @param {number} at */
function useNew(at) {
  const [isNew, setNew] = useState(() => Date.now() - at < 3_000);
  useEffect(() => {
    if (!isNew) return;
    const timer = setTimeout(() => setNew(false), 2_000);
    return () => clearTimeout(timer);
  }, []);
  return isNew;
}

/** Where there is more about it. @param {string} type @param {any} about */
function link(type, about) {
  if (type === "api_request" && about.request_id) return `/requests/${segment(about.request_id)}`;
  const page = /** @type {Record<string, string>} */ ({ providers_updated: "/providers", models_updated: "/models", settings_updated: "/settings", credentials_updated: "/credentials", sessions_updated: "/sessions", keys_updated: "/keys", actor_restarted: "/supervision" })[type];
  if (type === "providers_updated" && typeof about.id === "string" && about.action !== "deleted") return `/providers/${segment(about.id)}`;
  return page ?? null;
}
