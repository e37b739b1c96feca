import { ApiError } from "../api.js";
import { InfoIcon, WarnIcon } from "../icons.js";
import { html, useEffect, useState } from "../preact.js";
import { Button, Spinner } from "./basics.js";

/** @typedef {import("../preact.js").Children} Children */

/** There is nothing, and what to do about it. @param {{ title: string, icon?: any, actions?: Children, children?: Children }} props */
export function Empty({ title, icon: Icon = InfoIcon, actions, children }) {
  return html`<div class="state"><${Icon} size="28" /><h3>${title}</h3>${children && html`<div class="muted">${children}</div>`}${actions && html`<div class="actions">${actions}</div>`}</div>`;
}

/** Something failed, and what to do about it. @param {{ error: unknown, title?: string, retry?: () => unknown, children?: Children }} props */
export function ErrorState({ error, title = "This did not work", retry, children }) {
  const known = error instanceof ApiError ? error : null;
  const text = known ? known.message : error instanceof Error ? error.message : String(error);
  return html`<div class="state state-bad" role="alert"><${WarnIcon} size="28" /><h3>${title}</h3>
    <p>${text}</p>${known?.hint && html`<p class="muted">${known.hint}</p>`}
    ${known?.requestId && html`<p class="muted mono small">${known.requestId}</p>`}
    ${children}${retry && html`<div class="actions"><${Button} onClick=${retry}>Try again<//></div>`}
  </div>`;
}

/** Says nothing for a moment: most answers come at once. @param {{ what?: string }} props */
export function Loading({ what = "Loading" }) {
  const [late, setLate] = useState(false);
  useEffect(() => {
    const timer = setTimeout(() => setLate(true), 150);
    return () => clearTimeout(timer);
  }, []);
  return html`<div class="state" role="status">${late && html`<${Spinner} /><p class="muted">${what}…</p>`}</div>`;
}

/**
 * What a resource has, or why it has nothing yet. Old data stays when a later fetch fails: the shell says that the connection is lost.
 * @param {{ of: import("../store.js").Resource, what?: string, children: (data: any) => Children }} props
 */
export function Loaded({ of, what, children }) {
  if (of.data.value !== null) return children(of.data.value);
  if (of.error.value) return html`<${ErrorState} error=${of.error.value} retry=${of.refetch} />`;
  return html`<${Loading} what=${what} />`;
}
