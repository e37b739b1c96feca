import { html, signal, useEffect } from "../preact.js";
import { place } from "../router.js";
import { pageAt, pages } from "../../pages/index.js";

/** On narrow screens only. */
export const navigationOpen = signal(false);

export function Navigation() {
  const { path, segments } = place.value;
  const current = pageAt(segments);
  useEffect(() => void (navigationOpen.value = false), [path]);
  useEffect(() => {
    const close = (/** @type {KeyboardEvent} */ event) => event.key === "Escape" && (navigationOpen.value = false);
    document.addEventListener("keydown", close);
    return () => document.removeEventListener("keydown", close);
  }, []);
  const groups = [...new Set(pages.map(({ group }) => group))];
  return html`<nav class="nav" id="navigation" aria-label="Pages">
    ${groups.map((group) => html`<div class="nav-group" key=${group} role="group" aria-label=${group || "Start"}>
      ${group && html`<p class="nav-title" aria-hidden="true">${group}</p>`}
      ${pages.filter((page) => page.group === group).map(({ name, title, path: to, icon: Icon }) => html`<a key=${name} href=${to} aria-current=${current?.name === name ? "page" : undefined}><${Icon} /><span>${title}</span></a>`)}
    </div>`)}
  </nav><div class="nav-veil" onClick=${() => (navigationOpen.value = false)}></div>`;
}
