/**
 * The targets of a virtual model in their order: dragged by the handle with mouse or finger, or moved with the arrow keys on it.
 * @module
 */
import { CloseIcon, PlusIcon } from "../../lib/icons.js";
import { html, useRef, useState } from "../../lib/preact.js";
import { Button } from "../../lib/ui.js";

/** @typedef {{ key: number, target: string, weight: number | null }} Target */

/**
 * @param {{ targets: Target[], isWeighted: boolean, isOrdered: boolean, error?: string, models: any[], own: string, onChange: (targets: Target[]) => void }} props
 */
export function Targets({ targets, isWeighted, isOrdered, error, models, own, onChange }) {
  const list = useRef(/** @type {HTMLOListElement | null} */ (null));
  const [dragged, setDragged] = useState(/** @type {number | null} */ (null));
  const [told, setTold] = useState("");
  const move = (/** @type {number} */ from, /** @type {number} */ to) => {
    if (to < 0 || to >= targets.length || from === to) return;
    const next = [...targets];
    const [one] = next.splice(from, 1);
    next.splice(to, 0, one);
    onChange(next);
    setTold(`${one.target || "Target"} is now number ${to + 1} of ${next.length}`);
  };
  const change = (/** @type {number} */ at, /** @type {Partial<Target>} */ more) => onChange(targets.map((one, index) => (index === at ? { ...one, ...more } : one)));
  const add = () => {
    onChange([...targets, { key: Math.max(-1, ...targets.map(({ key }) => key)) + 1, target: "", weight: 1 }]);
    requestAnimationFrame(() => /** @type {HTMLElement | null} */ (list.current?.querySelector("li:last-child input"))?.focus());
  };
  const press = (/** @type {KeyboardEvent} */ event, /** @type {number} */ at) => {
    const to = /** @type {Record<string, number>} */ ({ ArrowUp: at - 1, ArrowDown: at + 1, Home: 0, End: targets.length - 1 })[event.key];
    if (to === undefined) return;
    event.preventDefault();
    const { key } = targets[at];
    move(at, to);
    requestAnimationFrame(() => /** @type {HTMLElement | null} */ (list.current?.querySelector(`[data-handle="${key}"]`))?.focus());
  };
  const drag = (/** @type {PointerEvent} */ event) => {
    const from = targets.findIndex(({ key }) => key === dragged);
    if (from < 0) return;
    const rows = [...(list.current?.children ?? [])];
    // The row takes the place of the one whose middle the pointer has passed.
    const to = rows.findIndex((row, at) => {
      const box = row.getBoundingClientRect();
      return at < from ? event.clientY < box.top + box.height / 2 : at > from && event.clientY > box.top + box.height / 2;
    });
    if (to >= 0) move(from, to);
  };
  const names = suggestions(models, own);
  return html`<fieldset class="targets"><legend>Targets${isOrdered && targets.length > 1 ? ", the first is asked first" : ""}</legend>
    <ol ref=${list}>${targets.map(
      (one, at) => html`<li key=${one.key} class=${`target${dragged === one.key ? " target-dragged" : ""}`}>
        <button type="button" class="handle" data-handle=${one.key} aria-label=${`Move target ${at + 1}: ${one.target || "empty"}`} title="Drag, or use the arrow keys" onKeyDown=${(/** @type {KeyboardEvent} */ event) => press(event, at)}
          onPointerDown=${(/** @type {any} */ event) => (event.currentTarget.setPointerCapture(event.pointerId), setDragged(one.key))} onPointerMove=${drag} onPointerUp=${() => setDragged(null)} onPointerCancel=${() => setDragged(null)}><span aria-hidden="true">⠿</span></button>
        <span class="target-place" aria-hidden="true">${at + 1}</span>
        <input name=${`target-${at}`} aria-label=${`Target ${at + 1}`} list="known-targets" spellcheck="false" autocomplete="off" placeholder="provider/model" value=${one.target} aria-invalid=${error ? "true" : undefined} onInput=${(/** @type {any} */ event) => change(at, { target: event.currentTarget.value })} />
        ${isWeighted && html`<input class="input-number" type="number" min="1" max="1000" aria-label=${`Weight of target ${at + 1}`} value=${one.weight ?? ""} onInput=${(/** @type {any} */ event) => change(at, { weight: event.currentTarget.value === "" ? null : Number(event.currentTarget.value) })} />`}
        <${Button} small kind="ghost" label=${`Take target ${at + 1} out`} disabled=${targets.length === 1} onClick=${() => onChange(targets.filter((_, index) => index !== at))}><${CloseIcon} size="15" /><//>
      </li>`,
    )}</ol>
    <datalist id="known-targets">${names.map((name) => html`<option value=${name} />`)}</datalist>
    ${error && html`<p class="field-error">${error}</p>`}
    <div class="row-between"><${Button} small onClick=${add}><${PlusIcon} size="15" /> Target<//><p class="help">A model, provider/model, or another virtual model.</p></div>
    <p class="sr-only" role="status">${told}</p>
  </fieldset>`;
}

/** Models as each provider has them, then by their bare names. @param {any[]} models @param {string} own */
function suggestions(models, own) {
  const qualified = models.filter(({ is_virtual: isVirtual, id }) => !isVirtual && id !== "echo").flatMap(({ id, providers }) => providers.map((/** @type {any} */ { provider }) => `${provider}/${id}`));
  return [...qualified, ...models.map(({ id }) => id)].filter((name) => name !== own);
}
