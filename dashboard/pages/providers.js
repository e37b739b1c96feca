/**
 * Providers: the list at `/providers`, one at `/providers/ID`. `?add` opens the form for a new one, `?add=TYPE` at a preset.
 * @module
 */
import { html } from "../lib/preact.js";
import { place } from "../lib/router.js";
import { ProviderDetail } from "./providers/detail.js";
import { ProviderList } from "./providers/list.js";

export default function Providers() {
  const id = place.value.segments[1];
  return id ? html`<${ProviderDetail} key=${id} id=${id} />` : html`<${ProviderList} />`;
}
