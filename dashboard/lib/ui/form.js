import { ApiError } from "../api.js";
import { html, useId, useRef, useState } from "../preact.js";
import { Button } from "./basics.js";
import { failed } from "./toasts.js";

/** @typedef {import("../preact.js").Children} Children */

/**
 * @typedef {object} FieldProps
 * @property {string} name as the API calls it: what it refuses is shown here
 * @property {string} label
 * @property {"text" | "number" | "password" | "url" | "textarea" | "select" | "checkbox" | "search"} [type]
 * @property {any} [value]
 * @property {Children} [help]
 * @property {string} [error]
 * @property {boolean} [required]
 * @property {boolean} [hideLabel] for screen readers only
 * @property {(string | { value: string, label: string })[]} [options] of a select
 * @property {(value: any) => void} [onInput] gets a number (or null) for numbers, a boolean for check boxes, else text
 */

/** A labelled input. Inside a form give it `...${form.field("name")}`. @param {FieldProps & { [attribute: string]: unknown }} props */
export function Field({ name, label, type = "text", value, help, error, required = false, hideLabel = false, options = [], onInput, ...rest }) {
  const id = useId();
  const describedBy = [help && `${id}-help`, error && `${id}-error`].filter(Boolean).join(" ") || undefined;
  const shared = { id, name, required, "aria-invalid": error ? "true" : undefined, "aria-describedby": describedBy, ...rest };
  const said = (/** @type {Event} */ event) => {
    const input = /** @type {HTMLInputElement} */ (event.currentTarget);
    if (type === "checkbox") onInput?.(input.checked);
    else if (type === "number") onInput?.(input.value === "" ? null : Number(input.value));
    else onInput?.(input.value);
  };
  const notes = html`${help && html`<p class="help" id=${`${id}-help`}>${help}</p>`}
    ${error && html`<p class="field-error" id=${`${id}-error`}>${error}</p>`}`;
  if (type === "checkbox") {
    return html`<div class="field field-check">
      <label for=${id}><input type="checkbox" ...${shared} checked=${Boolean(value)} onChange=${said} /> <span>${label}</span></label>${notes}
    </div>`;
  }
  const input =
    type === "textarea"
      ? html`<textarea rows="4" ...${shared} value=${value ?? ""} onInput=${said}></textarea>`
      : type === "select"
        ? html`<select ...${shared} value=${value ?? ""} onChange=${said}>
            ${options.map((option) => {
              const { value: key, label: text } = typeof option === "string" ? { value: option, label: option } : option;
              return html`<option value=${key} selected=${key === (value ?? "")}>${text}</option>`;
            })}
          </select>`
        : html`<input type=${type} ...${shared} value=${value ?? ""} onInput=${said} />`;
  return html`<div class="field">
    <label for=${id} class=${hideLabel ? "sr-only" : ""}>${label}${required && html` <span class="required" aria-hidden="true">*</span>`}</label>
    ${input}${notes}
  </div>`;
}

/**
 * The state of a form: values, what the server refused by field, and sending.
 * @template {Record<string, any>} T
 * @param {T} first
 * @param {(values: T) => unknown} send may throw an `ApiError`: its fields' errors are shown where they belong
 */
export function useForm(first, send) {
  const [values, setValues] = useState(first);
  const [errors, setErrors] = useState(/** @type {Record<string, string>} */ ({}));
  const [busy, setBusy] = useState(false);
  const shown = useRef(/** @type {Set<string>} */ (new Set())).current;
  const set = (/** @type {Partial<T>} */ changes) => {
    setValues((now) => ({ ...now, ...changes }));
    setErrors((now) => Object.fromEntries(Object.entries(now).filter(([name]) => !(name in changes))));
  };
  const field = (/** @type {keyof T & string} */ name) => {
    shown.add(name);
    return { name, value: values[name], error: errors[name], onInput: (/** @type {any} */ value) => set(/** @type {any} */ ({ [name]: value })) };
  };
  const submit = async (/** @type {Event} */ event) => {
    event.preventDefault();
    const form = event.currentTarget;
    if (busy) return;
    setBusy(true);
    setErrors({});
    try {
      await send(values);
    } catch (error) {
      if (!(error instanceof ApiError)) return failed(error);
      const byField = error.fields();
      const known = Object.entries(byField).filter(([name]) => shown.has(name));
      const others = Object.entries(byField).filter(([name]) => name && !shown.has(name)).map(([name, text]) => `${name} ${text}`);
      const rest = [byField[""], ...others].filter(Boolean).join("; ");
      setErrors({ ...Object.fromEntries(known), "": rest || (known.length ? "" : error.message + (error.hint ? `. ${error.hint}` : "")) });
      requestAnimationFrame(() => {
        const wrong = form instanceof HTMLElement ? form.querySelector("[aria-invalid=true]") : null;
        if (wrong instanceof HTMLElement) wrong.focus();
      });
    } finally {
      setBusy(false);
    }
  };
  return { values, errors, busy, set, field, submit, setErrors, reset: () => (setValues(first), setErrors({})) };
}

/**
 * @param {{ form: any, action?: string, kind?: string, onCancel?: () => void, extra?: Children, children?: Children }} props
 *   `form` comes from `useForm`; `extra`: more buttons
 */
export function Form({ form, action = "Save", kind = "primary", onCancel, extra, children }) {
  return html`<form class="form" noValidate onSubmit=${form.submit}>
    ${children}
    <div role="alert">${form.errors[""] && html`<p class="field-error">${form.errors[""]}</p>`}</div>
    <div class="form-actions">${extra}${onCancel && html`<${Button} onClick=${onCancel}>Cancel<//>`}<${Button} type="submit" kind=${kind} busy=${form.busy}>${action}<//></div>
  </form>`;
}
