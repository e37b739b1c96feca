import { ago, date } from "../../lib/format.js";
import { html } from "../../lib/preact.js";
import { models, providers, useShared } from "../../lib/store.js";
import { Badge, Button, Field } from "../../lib/ui.js";
import { fault, nameOf, readable, sentence, unitOf } from "./words.js";

/**
 * One setting: its value as an input of its type, what it is, its default, and when a change counts.
 * @param {{ setting: import("./words.js").Setting, value: any, error?: string, onChange: (key: string, value: any) => void,
 *   onReset: (setting: import("./words.js").Setting) => Promise<void> }} props
 */
export function Row({ setting, value, error, onChange, onReset }) {
  const { key, requiresRestart, isDefault, env, updated_at: at } = setting;
  const isEdited = (value ?? "") !== (setting.value ?? "");
  const wrong = error ?? (isEdited ? fault(setting, value) : null);
  const origin = isDefault ? null : at ? `changed ${ago(at)}` : `from ${env ? `a flag or ${env}` : "a flag"}`;
  return html`<div class=${`setting${isEdited ? " setting-edited" : ""}`} data-setting=${key}>
    <div class="setting-words">
      <div class="setting-name"><strong id=${`name-${key}`}>${nameOf(key)}</strong>
        ${requiresRestart && html`<${Badge} tone="warn" title="Read at the start only">next start<//>`}
        ${isEdited ? html`<${Badge} tone="info">not saved<//>` : !isDefault && html`<${Badge} tone="neutral" title=${at ? date(at) : undefined}>${origin}<//>`}
      </div>
      <p class="muted">${sentence(setting.description)}</p>
      <p class="muted small"><code>${key}</code> · default ${readable(setting, setting.default)}${bounds(setting)}</p>
    </div>
    <div class="setting-value">
      <${Input} setting=${setting} value=${value} error=${wrong ?? undefined} onInput=${(/** @type {any} */ next) => onChange(key, next)} />
      <div class="setting-do">
        <span class="muted small">${converted(setting, value)}</span>
        ${!isDefault && html`<${Button} small kind="ghost" onClick=${() => onReset(setting)} aria-label=${`Reset ${nameOf(key)} to its default`}>Reset<//>`}
      </div>
    </div>
  </div>`;
}

/** A large number as people read it. @param {import("./words.js").Setting} setting @param {any} value */
function converted(setting, value) {
  return ["ms", "bytes"].includes(unitOf(setting)) && Number.isFinite(value) && value >= 1_000 ? `= ${readable(setting, value)}` : "";
}

/** @param {import("./words.js").Setting} setting */
function bounds(setting) {
  const { minimum, maximum } = setting.constraints ?? {};
  return minimum === undefined ? "" : ` · ${readable(setting, minimum)} to ${readable(setting, maximum)}`;
}

/** @param {{ setting: import("./words.js").Setting, value: any, error?: string, onInput: (value: any) => void }} props */
function Input({ setting, value, error, onInput }) {
  const { key, type, constraints, requiresRestart } = setting;
  const shared = { name: key, label: nameOf(key), hideLabel: true, value, error, onInput };
  if (key === "active_provider") return html`<${ActiveProvider} ...${shared} />`;
  if (key === "active_model") return html`<${ActiveModel} ...${shared} />`;
  if (type === "boolean") return html`<${Field} ...${shared} type="checkbox" role="switch" label=${html`<span class="sr-only">${nameOf(key)}: </span>${value ? "On" : "Off"}`} />`;
  if (constraints?.enum) return html`<${Field} ...${shared} type="select" options=${constraints.enum} />`;
  if (type === "integer") {
    const unit = unitOf(setting);
    const field = html`<${Field} ...${shared} type="number" step="1" min=${constraints?.minimum} max=${constraints?.maximum} inputmode="numeric" />`;
    return unit ? html`<div class="with-unit">${field}<span class="muted" aria-hidden="true">${unit}</span></div>` : field;
  }
  return html`<${Field} ...${shared} spellcheck="false" autocomplete="off" placeholder=${requiresRestart ? undefined : "none"} />`;
}

/** @param {any} shared */
function ActiveProvider(shared) {
  const known = useShared(providers).data.value?.providers ?? [];
  const enabled = known.filter((/** @type {any} */ { enabled }) => enabled).map((/** @type {any} */ { id, name }) => ({ value: id, label: name === id ? id : `${name} (${id})` }));
  const none = shared.value ? [] : [{ value: "", label: "none: by strategy" }];
  const lost = shared.value && ![...enabled, { value: "echo" }].some(({ value }) => value === shared.value) ? [{ value: shared.value, label: `${shared.value} (not enabled)` }] : [];
  return html`<${Field} ...${shared} type="select" options=${[...none, ...lost, ...enabled, ...(enabled.some((/** @type {any} */ { value }) => value === "echo") ? [] : [{ value: "echo", label: "echo (built in)" }])]} />`;
}

/** @param {any} shared */
function ActiveModel(shared) {
  const known = useShared(models).data.value?.models ?? [];
  return html`<${Field} ...${shared} list="known-models" placeholder="none" spellcheck="false" autocomplete="off" />
    <datalist id="known-models">${known.map((/** @type {any} */ { id }) => html`<option value=${id} />`)}</datalist>`;
}
