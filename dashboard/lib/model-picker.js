/**
 * Choosing a model by typing parts of its name: everything that a client may ask for, and any other name.
 * @module
 */
import { html, useEffect, useId, useMemo, useRef, useState } from "./preact.js";
import { resource, useShared } from "./store.js";
import { styles } from "./styles.js";

await styles("model-picker");

/** Shown at once; whoever has thousands types one more letter. */
const SHOWN = 60;

/** Every name a completion may have as its model. */
export const askable = resource("/api/chat/completions/models", { events: ["models:updated", "providers:updated", "provider:*"] });

/** @typedef {{ id: string, provider: string, providers: string[], context_length: number | null, capabilities: string[] }} Askable */

/**
 * @param {{ value: string, onChange: (model: string) => void, label?: string, hideLabel?: boolean, placeholder?: string }} props
 */
export function ModelPicker({ value, onChange, label = "Model", hideLabel = false, placeholder = "Search models" }) {
  useShared(askable);
  const id = useId();
  const [typed, setTyped] = useState(/** @type {string | null} */ (null));
  const [at, setAt] = useState(0);
  const box = useRef(/** @type {HTMLDivElement | null} */ (null));
  /** @type {Askable[]} */
  const all = askable.data.value?.models ?? [];
  const open = typed !== null;
  const list = useMemo(() => (open ? found(all, typed) : []), [all, typed, open]);
  useEffect(() => {
    if (open) document.getElementById(`${id}-${at}`)?.scrollIntoView({ block: "nearest" });
  }, [at, open]);
  const choose = (/** @type {string} */ model) => {
    setTyped(null);
    if (model && model !== value) onChange(model);
  };
  const key = (/** @type {KeyboardEvent} */ event) => {
    const to = { ArrowDown: at + 1, ArrowUp: at - 1 }[event.key];
    if (to !== undefined) {
      event.preventDefault();
      if (!open) {
        setTyped("");
        setAt(0);
      } else if (list.length) setAt((to + list.length) % list.length);
    } else if (event.key === "Enter" && open) {
      event.preventDefault();
      choose(list[at]?.id ?? typed.trim());
    } else if (event.key === "Escape" && open) {
      event.preventDefault();
      event.stopPropagation();
      setTyped(null);
    }
  };
  // A name nobody lists may still be asked for.
  const left = (/** @type {FocusEvent} */ event) => {
    if (box.current?.contains(/** @type {Node | null} */ (event.relatedTarget))) return;
    if (typed?.trim() && all.every((model) => model.id !== typed.trim()) && !list.length) choose(typed.trim());
    else if (typed !== null) choose(all.find((model) => model.id === typed.trim())?.id ?? "");
  };
  return html`<div class="field picker" ref=${box} onFocusOut=${left}>
    <label for=${id} class=${hideLabel ? "sr-only" : ""}>${label}</label>
    <input id=${id} type="text" role="combobox" aria-autocomplete="list" aria-expanded=${open ? "true" : "false"} aria-controls=${`${id}-list`} autocomplete="off" spellcheck=${false}
      aria-activedescendant=${open && list.length ? `${id}-${at}` : undefined} placeholder=${value || placeholder} value=${typed ?? value} onKeyDown=${key}
      onClick=${() => !open && (setTyped(""), setAt(0))}
      onInput=${(/** @type {any} */ event) => {
        setTyped(event.currentTarget.value);
        setAt(0);
      }} />
    ${open && html`<ul class="picker-list" id=${`${id}-list`} role="listbox" aria-label=${`${label}: suggestions`}>
      ${list.map(
        (model, index) => html`<li key=${model.id} id=${`${id}-${index}`} role="option" aria-selected=${index === at ? "true" : "false"} onMouseDown=${(/** @type {Event} */ event) => event.preventDefault()}
          onMouseMove=${() => setAt(index)} onClick=${() => choose(model.id)}><span class="picker-name">${model.id}</span><span class="muted small">${about(model)}</span></li>`,
      )}
      ${list.length === 0 && html`<li class="muted" role="option" aria-selected="false" aria-disabled="true">${all.length ? "No listed model has that name. Enter asks for it all the same." : "No provider listed its models yet. Type a name."}</li>`}
    </ul>`}
  </div>`;
}

/** @param {Askable} model */
function about(model) {
  return [model.provider && !model.id.startsWith(`${model.provider}/`) ? model.providers.join(", ") || model.provider : "", model.capabilities.join(" "), model.context_length ? `${Math.round(model.context_length / 1_000)}k` : ""].filter(Boolean).join(" · ");
}

/** Those with all the words; names that begin so come first. @param {Askable[]} all @param {string} words */
function found(all, words) {
  const wanted = words.toLowerCase().split(/\s+/).filter(Boolean);
  const fit = all.filter(({ id, capabilities }) => wanted.every((word) => id.toLowerCase().includes(word) || capabilities.includes(word)));
  if (wanted.length) fit.sort((a, b) => Number(b.id.toLowerCase().startsWith(wanted[0])) - Number(a.id.toLowerCase().startsWith(wanted[0])));
  return fit.slice(0, SHOWN);
}
