/**
 * Requests: everything clients asked, the newest first, live; and each exchange in all its parts at `/requests/ID`.
 * @module
 */
import { html } from "../lib/preact.js";
import { place } from "../lib/router.js";
import { styles } from "../lib/styles.js";
import { ButtonLink, Page } from "../lib/ui.js";
import { Detail } from "./requests/detail.js";
import { List } from "./requests/list.js";

await styles("requests");

export default function Requests() {
  const id = place.value.segments[1];
  const back = new URLSearchParams(place.value.query);
  for (const name of ["tab", "with", "document"]) back.delete(name);
  const text = back.toString();
  return html`<${Page} title=${id ? "Request" : "Requests"} lead=${id ? undefined : "What clients asked and what they got, as it happens."} wide
    actions=${id && html`<${ButtonLink} href=${`/requests${text ? `?${text}` : ""}`}>Back to the list<//>`}>
    <${List} hidden=${Boolean(id)} />
    ${id && html`<${Detail} key=${id} id=${id} />`}
  <//>`;
}
