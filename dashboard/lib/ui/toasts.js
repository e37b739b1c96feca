import { ApiError } from "../api.js";
import { CloseIcon } from "../icons.js";
import { html, signal } from "../preact.js";

/** @typedef {{ id: number, tone: "good" | "bad" | "info", text: string, hint: string | null, requestId: string | null }} Toast */

const shown = signal(/** @type {Toast[]} */ ([]));
let last = 0;

/** Says something for a while. @param {string} text @param {{ tone?: Toast["tone"], hint?: string | null, requestId?: string | null, lasts?: number }} [options] */
export function toast(text, { tone = "good", hint = null, requestId = null, lasts = tone === "bad" ? 10_000 : 4_000 } = {}) {
  const id = ++last;
  shown.value = [...shown.value.slice(-3), { id, tone, text, hint, requestId }];
  setTimeout(() => close(id), lasts);
}

/** Says why something failed, and what to do. @param {unknown} error */
export function failed(error) {
  if (error instanceof ApiError) toast(error.message, { tone: "bad", hint: error.hint, requestId: error.requestId });
  else toast(error instanceof Error ? error.message : String(error), { tone: "bad" });
}
toast.failed = failed;

/** @param {number} id */
const close = (id) => (shown.value = shown.value.filter((one) => one.id !== id));

/** Where they appear; the shell has it. */
export function Toasts() {
  return html`<div class="toasts" role="region" aria-label="Notifications" aria-live="polite">
    ${shown.value.map(
      ({ id, tone, text, hint, requestId }) => html`<div key=${id} class=${`toast toast-${tone}`}>
        <div><p>${text}</p>${hint && html`<p class="muted">${hint}</p>`}${requestId && html`<p class="muted mono small">${requestId}</p>`}</div>
        <button type="button" class="button button-ghost button-small" aria-label="Close" onClick=${() => close(id)}><${CloseIcon} size="15" /></button>
      </div>`,
    )}
  </div>`;
}
