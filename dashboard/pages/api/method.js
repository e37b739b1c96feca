import { html } from "../../lib/preact.js";
import { Badge } from "../../lib/ui.js";

const TONES = /** @type {Record<string, "good" | "info" | "warn" | "bad">} */ ({ GET: "info", POST: "good", PUT: "warn", PATCH: "warn", DELETE: "bad" });

/** @param {{ method: string }} props */
export function Method({ method }) {
  return html`<span class="method"><${Badge} tone=${TONES[method] ?? "neutral"}>${method}<//></span>`;
}
