/** @module the configuration of a provider as fields: what its type knows, with the types it knows them by */
import { ApiError, api } from "../../lib/api.js";
import { html, useEffect, useState } from "../../lib/preact.js";
import { Field } from "../../lib/ui.js";

/** What stands for a secret that is stored; sent back it means "as it is". */
export const MASK = "***MASKED***";

const LABELS = /** @type {Record<string, string>} */ ({
  baseURL: "Address",
  apiKey: "API key",
  timeout: "Silence limit (ms)",
  headers: "Headers",
  defaultModel: "Default model",
  record: "Record exchanges",
  responses: "Serves the Responses API",
  caFile: "CA file",
  maxConcurrent: "Requests at once",
  requestsPerMinute: "Requests per minute",
  tokensPerMinute: "Tokens per minute",
});
const FIRST = ["apiKey", "baseURL"];
/** Every upstream can be spared, whatever its type. */
const LIMITS = {
  maxConcurrent: { type: "number", description: "More wait, or go to another provider. Empty: no limit." },
  requestsPerMinute: { type: "number", description: "Empty: no limit." },
  tokensPerMinute: { type: "number", description: "Empty: no limit." },
};

/** @param {string} key */
export const labelOf = (key) => LABELS[key] ?? key;

/** The keys of a type, then those that are stored beside them. @param {any} type of `/api/providers/types`, null for an unknown one @param {Record<string, any>} stored */
export function schemaOf(type, stored) {
  const known = { ...(type?.configSchema ?? GENERIC), ...(hasLimits(type) ? LIMITS : {}) };
  const others = Object.keys(stored).filter((key) => !(key in known));
  return { ...known, ...Object.fromEntries(others.map((key) => [key, { type: kindOf(stored[key]), description: "Set by hand", sensitive: stored[key] === MASK }])) };
}

const GENERIC = { baseURL: { type: "string", description: "Where its API begins" }, apiKey: { type: "string", description: "Sent as a bearer token", sensitive: true }, timeout: { type: "number", description: "Milliseconds it may stay silent" }, headers: { type: "object", description: "Headers to send along" }, defaultModel: { type: "string", description: "The model of requests that name none" } };

/** @param {any} type */
const hasLimits = (type) => !["qwen-direct", "echo"].includes(type?.value);

/** @param {unknown} value */
const kindOf = (value) => (typeof value === "number" ? "number" : typeof value === "boolean" ? "boolean" : typeof value === "object" && value !== null ? "object" : "string");

/** Values as inputs hold them, by `config.KEY`. @param {Record<string, any>} schema @param {Record<string, any>} stored */
export function toFields(schema, stored) {
  return Object.fromEntries(
    Object.entries(schema).map(([key, { type }]) => {
      const value = stored[key];
      if (type === "object") return [key, value ? lines(value) : ""];
      if (type === "boolean") return [key, value === undefined ? "" : String(value)];
      return [key, value ?? (type === "number" ? null : "")];
    }),
  );
}

/**
 * What is to be sent: `config` with the values, and the keys that are to go.
 * @param {Record<string, any>} schema @param {Record<string, any>} values @param {Record<string, any>} stored
 */
export function fromFields(schema, values, stored) {
  /** @type {Record<string, any>} */
  const config = {};
  const gone = [];
  for (const [key, { type }] of Object.entries(schema)) {
    const value = values[key];
    if (value === "" || value === null || value === undefined) {
      if (key in stored) gone.push(key);
    } else if (type === "object") config[key] = pairs(key, value);
    else if (type === "boolean") config[key] = value === "true";
    else if (type === "number") config[key] = Number(value);
    else config[key] = value.trim();
  }
  return { config, gone };
}

/** `Name: value` lines. @param {any} object */
const lines = (object) => Object.entries(object).map(([name, value]) => `${name}: ${value}`).join("\n");

/** @param {string} key @param {string} text */
function pairs(key, text) {
  const made = /** @type {Record<string, string>} */ ({});
  for (const line of text.split("\n").map((one) => one.trim()).filter(Boolean)) {
    const at = line.indexOf(":");
    if (at < 1) throw new ApiError(400, { error: { message: `${labelOf(key)}: each line must be a name, a colon and a value`, errors: [`\`${key}\` must have a name, a colon and a value in each line`] } });
    made[line.slice(0, at).trim()] = line.slice(at + 1).trim();
  }
  return made;
}

/** What the server says of `config.KEY` belongs to the field KEY. @param {unknown} error */
export function atFields(error) {
  if (error instanceof ApiError) error.errors = error.errors.map((one) => one.replace(/^config\.([^\s.]+)\S* (?:`[^`]*` )?/, "`$1` "));
  return error;
}

/**
 * @param {{ form: any, schema: Record<string, any>, type: any }} props `form.field(KEY)` for each key of the schema
 */
export function ConfigFields({ form, schema, type }) {
  const keys = Object.keys(schema);
  const isNeeded = (/** @type {string} */ key) => (type?.requiredConfig ?? []).includes(key);
  const first = [...keys.filter(isNeeded), ...FIRST.filter((key) => keys.includes(key) && !isNeeded(key))];
  const more = keys.filter((key) => !first.includes(key));
  const one = (/** @type {string} */ key) => html`<${ConfigField} key=${key} name=${key} about=${schema[key]} field=${form.field(key)} required=${isNeeded(key)} type=${type} />`;
  const isWrong = more.some((key) => form.errors[key]);
  return html`${first.map(one)}
    ${more.length > 0 && html`<details class="more" open=${isWrong || undefined}><summary>More settings</summary><div class="fields">${more.map(one)}</div></details>`}`;
}

/** @param {{ name: string, about: any, field: any, required: boolean, type: any }} props */
function ConfigField({ name, about, field, required, type }) {
  const label = labelOf(name);
  const fallback = about.default ?? null;
  if (about.enum) {
    const options = [{ value: "", label: "As the gateway does" }, ...about.enum.map((/** @type {string} */ value) => ({ value, label: value }))];
    return html`<${Field} ...${field} label=${label} type="select" options=${options} help=${about.description.replaceAll("`", "")} />`;
  }
  if (about.type === "boolean") {
    const options = [{ value: "", label: "As its type does" }, { value: "true", label: "Yes" }, { value: "false", label: "No" }];
    return html`<${Field} ...${field} label=${label} type="select" options=${options} help=${about.description} />`;
  }
  if (about.type === "object") return html`<${Field} ...${field} label=${label} type="textarea" rows="3" spellcheck="false" placeholder="X-Team: research" help=${`${about.description}: one in a line. ${MASK} leaves a value as it is.`} />`;
  if (about.sensitive) {
    const help = field.value === MASK ? "One is stored. Leave it as it is to keep it; empty it to remove it." : type?.keyVariable ? `${about.description}; the vendor's tools read it from ${type.keyVariable}.` : about.description;
    return html`<${Field} ...${field} label=${label} type="password" autocomplete="off" required=${required} help=${help} onFocus=${(/** @type {any} */ event) => event.currentTarget.value === MASK && event.currentTarget.select()} />`;
  }
  const help = fallback !== null && about.type === "number" ? `${about.description}. Empty: ${fallback}.` : about.description;
  return html`<${Field} ...${field} label=${label} type=${about.type === "number" ? "number" : "text"} required=${required} spellcheck="false" autocomplete="off" placeholder=${fallback ?? about.example ?? ""} help=${help} />`;
}

/** What kinds of providers there are; asked for once. @returns {{ types: any[] | null, error: unknown }} */
export function useTypes() {
  const [state, setState] = useState({ types: kept, error: /** @type {unknown} */ (null) });
  useEffect(() => {
    if (kept) return;
    api.get("/api/providers/types").then(
      ({ types }) => setState({ types: (kept = types), error: null }),
      (error) => setState({ types: null, error }),
    );
  }, []);
  return state;
}
/** @type {any[] | null} */
let kept = null;
