import { html, useEffect, useId } from "../preact.js";

/**
 * @param {{ label: string, tabs: { key: string, title: import("../preact.js").Children }[], current: string,
 *   onChange: (key: string) => void, children?: import("../preact.js").Children }} props the children are the current tab's content
 */
export function Tabs({ label, tabs, current, onChange, children }) {
  const id = useId();
  // On a phone there may be more of them than fit.
  useEffect(() => {
    const chosen = document.getElementById(`${id}-${current}`);
    const list = chosen?.parentElement;
    if (!chosen || !list) return;
    if (chosen.offsetLeft < list.scrollLeft) list.scrollLeft = chosen.offsetLeft;
    else if (chosen.offsetLeft + chosen.offsetWidth > list.scrollLeft + list.clientWidth) list.scrollLeft = chosen.offsetLeft + chosen.offsetWidth - list.clientWidth;
  }, [current]);
  const move = (/** @type {KeyboardEvent} */ event) => {
    const at = tabs.findIndex(({ key }) => key === current);
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: tabs.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    const { key } = tabs[(to + tabs.length) % tabs.length];
    onChange(key);
    document.getElementById(`${id}-${key}`)?.focus();
  };
  return html`<div class="tabs">
    <div role="tablist" aria-label=${label} onKeyDown=${move}>
      ${tabs.map(
        ({ key, title }) => html`<button key=${key} type="button" role="tab" id=${`${id}-${key}`} aria-selected=${key === current ? "true" : "false"}
          aria-controls=${`${id}-panel`} tabindex=${key === current ? 0 : -1} onClick=${() => onChange(key)}>${title}</button>`,
      )}
    </div>
    <div role="tabpanel" id=${`${id}-panel`} aria-labelledby=${`${id}-${current}`} tabindex="0">${children}</div>
  </div>`;
}
