/**
 * How messages look: who speaks, thinking apart, calls of tools and their results, pictures. Whatever a model or a client says
 * is text, or goes through `Markdown`.
 * @module
 */
import { callsOf, partsOf, pretty, thinkingOf } from "./completion.js";
import { html, useState } from "./preact.js";
import { styles } from "./styles.js";
import { Code, Markdown } from "./ui.js";

await styles("conversation");

/** @typedef {import("./preact.js").Children} Children */

const SPEAKERS = /** @type {Record<string, string>} */ ({ system: "System", developer: "Developer", user: "User", assistant: "Assistant", tool: "Tool result", function: "Tool result" });
/** Longer texts are shown by their beginning: a browser takes seconds to lay out a book. */
const LONGEST = 20_000;

/**
 * One message of OpenAI's API.
 * @param {{ message: any, note?: Children, actions?: Children, children?: Children }} props `note`: beside who speaks; `children`: below it
 */
export function Message({ message, note, actions, children }) {
  const role = String(message?.role ?? "");
  const name = [SPEAKERS[role] ?? (role || "Message"), message?.name].filter(Boolean).join(" · ");
  return html`<article class=${`message message-${SPEAKERS[role] ? role : "other"}`} aria-label=${name}>
    <header class="message-head"><h3>${name}</h3>${note && html`<span class="muted small">${note}</span>`}${actions && html`<div class="actions">${actions}</div>`}</header>
    <div class="message-body">
      <${Thinking} text=${thinkingOf(message)} />
      ${partsOf(message?.content).map((part) => html`<${Part} part=${part} role=${role} />`)}
      ${callsOf(message).map((call) => html`<${ToolCall} key=${call.id} call=${call} />`)}
      ${children}
    </div>
  </article>`;
}

/** @param {{ part: import("./completion.js").Part, role: string }} props */
function Part({ part, role }) {
  if (part.kind === "image") return html`<${Picture} url=${part.url} />`;
  if (part.kind === "other") return html`<${Code} text=${JSON.stringify(part.value, null, 2)} label="Content" />`;
  if (role === "tool" || role === "function") return html`<${Code} text=${pretty(part.text)} label="Result" wrap />`;
  return html`<${Said} text=${part.text} plain=${role !== "assistant"} />`;
}

/** Text: a model's with its formatting, everybody else's as it was typed. @param {{ text: string, plain?: boolean }} props */
export function Said({ text, plain = false }) {
  const [all, setAll] = useState(false);
  const shown = all || text.length <= LONGEST ? text : text.slice(0, LONGEST);
  return html`${plain ? html`<div class="plain">${shown}</div>` : html`<${Markdown} text=${shown} />`}
    ${shown !== text && html`<button type="button" class="more" onClick=${() => setAll(true)}>Show all ${text.length.toLocaleString("en")} characters</button>`}`;
}

/** @param {{ text: string, open?: boolean, label?: string }} props `open`: while it thinks */
export function Thinking({ text, open = false, label = "Thinking" }) {
  if (!text) return null;
  return html`<details class="thinking" open=${open}><summary>${label}</summary><div class="plain">${text}</div></details>`;
}

/** @param {{ call: import("./completion.js").Call }} props */
export function ToolCall({ call }) {
  return html`<div class="tool-call"><div class="row"><span class="badge badge-info">Tool call</span><code>${call.name || "?"}</code>${call.id && html`<span class="muted small mono">${call.id}</span>`}</div>
    <${Code} text=${pretty(call.arguments || "{}")} label="Arguments" wrap /></div>`;
}

/** Pictures that are in the message itself. One elsewhere is not fetched: its host would learn who looks. @param {{ url: string }} props */
export function Picture({ url }) {
  if (/^data:image\/(png|jpe?g|gif|webp|avif|bmp);base64,/i.test(url)) return html`<img class="picture" src=${url} alt="Attached" />`;
  const shown = url.length > 200 ? `${url.slice(0, 200)}…` : url;
  return html`<p class="muted">Picture: ${/^https?:\/\//i.test(url) && URL.canParse(url) ? html`<a href=${url} target="_blank" rel="noopener noreferrer nofollow">${shown}</a>` : html`<code>${shown}</code>`}</p>`;
}
