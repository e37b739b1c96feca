/**
 * Settings: what each is, what it may be, and when it counts. Changes are gathered and stored together, all or none.
 * @module
 */
import { ApiError, api } from "../lib/api.js";
import { plural } from "../lib/format.js";
import { html, signal, useEffect, useRef, useState } from "../lib/preact.js";
import { param, place, setQuery } from "../lib/router.js";
import { useResource } from "../lib/store.js";
import { Button, Empty, Field, Loaded, Page, Panel, confirm, toast } from "../lib/ui.js";
import { AdminToken } from "./settings/admin-token.js";
import { Row } from "./settings/row.js";
import { SECTIONS, fault, matches, nameOf, sectionOf } from "./settings/words.js";

/** @typedef {import("./settings/words.js").Setting} Setting */

/** Not a value to type: it has its own panel. */
const TOKEN = "auth.adminToken";
/** Where this page itself comes from. */
const MOVES = ["server.apiPort", "server.host"];

/** What was typed and is not saved, also while another page is looked at. */
const kept = signal(/** @type {Record<string, any>} */ ({}));

/** What has no value is an empty field. @param {any} one @param {any} other */
const same = (one, other) => (one ?? "") === (other ?? "");

export default function Settings() {
  const all = useResource("/api/settings", { query: { details: true }, events: "settings:updated" });
  const drafts = kept.value;
  const [refused, setRefused] = useState(/** @type {Record<string, string>} */ ({}));
  const known = /** @type {Setting[]} */ (all.data.value?.details ?? []).filter(({ key }) => key !== TOKEN);
  const edited = known.filter(({ key, value }) => key in drafts && !same(drafts[key], value));

  const change = (/** @type {string} */ key, /** @type {any} */ value) => {
    kept.value = { ...kept.value, [key]: value };
    setRefused(({ [key]: _, ...others }) => others);
  };
  const discard = () => ((kept.value = {}), setRefused({}));
  const reset = async (/** @type {Setting} */ setting) => {
    await api.delete(`/api/settings/${encodeURIComponent(setting.key)}`);
    const { [setting.key]: _, ...others } = kept.value;
    kept.value = others;
    await all.refetch();
    toast(`${nameOf(setting.key)} is back at its default`);
  };
  const save = async () => {
    const wrong = Object.fromEntries(edited.flatMap((setting) => {
      const text = fault(setting, drafts[setting.key]);
      return text ? [[setting.key, text]] : [];
    }));
    if (Object.keys(wrong).length) return refuse(wrong);
    const moved = edited.find(({ key }) => MOVES.includes(key));
    if (moved && !(await confirm({ title: "Move the dashboard?", text: html`<p>${nameOf(moved.key)} is where this page comes from. The gateway answers there from then on, and this tab goes with it.</p>`, action: "Move" }))) return;
    const cleared = edited.filter((setting) => setting.default === null && drafts[setting.key] === "");
    const wanted = Object.fromEntries(edited.filter((setting) => !cleared.includes(setting)).map(({ key }) => [key, drafts[key]]));
    try {
      const done = Object.keys(wanted).length ? await api.post("/api/settings/bulk", { settings: wanted }, { query: { atomic: true } }) : {};
      for (const { key } of cleared) await api.delete(`/api/settings/${encodeURIComponent(key)}`);
      discard();
      toast(done.requiresRestart ? "Saved. Part of it counts from the next start on." : `${plural(edited.length, "setting")} saved, in force now`);
      if ("server.apiPort" in wanted) return location.assign(`${location.protocol}//${location.hostname}:${wanted["server.apiPort"]}/settings`);
      await all.refetch();
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      const { "": rest, ...byKey } = error.fields();
      if (!Object.keys(byKey).length || rest) toast.failed(error);
      refuse(byKey);
    }
  };
  const refuse = (/** @type {Record<string, string>} */ wrong) => {
    setRefused(wrong);
    // It may be hidden by what is looked for.
    if (param("q") || param("changed")) setQuery({ q: null, changed: null });
    requestAnimationFrame(() => {
      const first = document.querySelector("main [aria-invalid=true]");
      if (first instanceof HTMLElement) first.focus();
    });
  };

  const lead = "Every setting counts from the moment it is saved, unless it says otherwise. What is stored here survives a restart.";
  return html`<${Page} title="Settings" lead=${lead}>
    <${Loaded} of=${all}>${() => html`<${Toolbar} changed=${known.filter(({ isDefault }) => !isDefault).length} />
      <${Sections} known=${known} row=${(/** @type {Setting} */ setting) => html`<${Row} key=${setting.key} setting=${setting} value=${setting.key in drafts ? drafts[setting.key] : setting.value} error=${refused[setting.key]}
        onChange=${change} onReset=${reset} />`} />`}<//>
    ${edited.length > 0 && html`<div class="save-bar" role="region" aria-label="Changes that are not saved">
      <span>${plural(edited.length, "change")} not saved</span>
      <div class="actions"><${Button} onClick=${discard}>Discard<//><${Button} kind="primary" onClick=${save}>Save<//></div>
    </div>`}
  <//>`;
}

/** @param {{ changed: number }} props */
function Toolbar({ changed }) {
  return html`<div class="toolbar" role="search">
    <div class="grow"><${Field} name="q" type="search" label="Search settings" hideLabel placeholder="Search by name, key or what it does" value=${param("q")} onInput=${(/** @type {string} */ q) => setQuery({ q })} /></div>
    <${Field} name="changed" type="checkbox" label=${`Only changed (${changed})`} value=${param("changed") === "1"} onInput=${(/** @type {boolean} */ on) => setQuery({ changed: on ? 1 : null })} />
  </div>`;
}

/** @param {{ known: Setting[], row: (setting: Setting) => any }} props */
function Sections({ known, row }) {
  const wanted = param("q").trim().toLowerCase();
  const only = param("changed") === "1";
  const found = known.filter((setting) => (!only || !setting.isDefault) && (!wanted || matches(setting, wanted)));
  const showsToken = !only && (!wanted || "admin token access login password auth.admintoken".includes(wanted));
  const shown = SECTIONS.map((section) => ({ ...section, settings: found.filter(({ category }) => sectionOf(category).id === section.id) }))
    .filter(({ id, settings }) => settings.length || (id === "access" && showsToken));
  useJump(shown.length > 0);
  if (!shown.length) {
    return html`<${Panel}><${Empty} title="No setting fits" actions=${html`<${Button} onClick=${() => setQuery({ q: null, changed: null })}>Show all<//>`}>${only ? "Everything else is at its default." : "Search for a part of the name, the key, or what it does."}<//><//>`;
  }
  return html`<div class="settings">
    <nav class="settings-nav" aria-label="Sections">${shown.map(({ id, title, settings }) => html`<a key=${id} href=${`#${id}`}>${title}<span class="muted small">${settings.length || ""}</span></a>`)}</nav>
    <div class="stack">${shown.map(({ id, title, lead, settings }) => html`<section key=${id} id=${id} class="panel settings-section" aria-labelledby=${`${id}-title`} tabindex="-1">
      <header class="panel-head"><div><h2 id=${`${id}-title`}>${title}</h2><p class="muted small">${lead}</p></div></header>
      ${id === "access" && showsToken && html`<${AdminToken} />`}
      <div class="settings-list">${settings.map(row)}</div>
    </section>`)}</div>
  </div>`;
}

/** A link to a section (`/settings#cache`) is older than the list. @param {boolean} ready */
function useJump(ready) {
  const done = useRef(false);
  useEffect(() => {
    if (!ready || done.current || place.value.path !== "/settings") return;
    done.current = true;
    if (location.hash) document.getElementById(location.hash.slice(1))?.scrollIntoView();
  }, [ready]);
}
