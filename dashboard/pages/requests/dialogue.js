/**
 * An exchange as a conversation: what the client sent, then the answer, with the seam where another provider went on.
 * @module
 */
import { callsOf, partsOf, thinkingOf } from "../../lib/completion.js";
import { Message, Said, Thinking, ToolCall } from "../../lib/conversation.js";
import { duration, plural } from "../../lib/format.js";
import { html, useState } from "../../lib/preact.js";
import { Code, Empty, Spinner } from "../../lib/ui.js";

/** Messages that are shown at once; agents send hundreds. */
const SHOWN = 20;

/** @param {{ exchange: any }} props */
export function Conversation({ exchange }) {
  const [all, setAll] = useState(false);
  const messages = Array.isArray(exchange.openai_request?.messages) ? exchange.openai_request.messages : null;
  const tools = Array.isArray(exchange.openai_request?.tools) ? exchange.openai_request.tools : [];
  const hidden = messages && !all ? Math.max(0, messages.length - SHOWN) : 0;
  return html`<div class="messages" data-test="conversation">
    ${!messages && html`<${Kept} exchange=${exchange} />`}
    ${tools.length > 0 && html`<details class="thinking"><summary>${plural(tools.length, "tool")} declared: ${tools.map((/** @type {any} */ tool) => tool?.function?.name ?? tool?.type ?? "?").join(", ").slice(0, 200)}</summary><${Code} text=${JSON.stringify(tools, null, 2)} label="Tools" /></details>`}
    ${hidden > 0 && html`<button type="button" class="more" onClick=${() => setAll(true)}>Show ${plural(hidden, "earlier message")}</button>`}
    ${messages?.slice(hidden).map((/** @type {any} */ message, /** @type {number} */ at) => html`<${Message} key=${hidden + at} message=${message} />`)}
    <${Answer} exchange=${exchange} />
  </div>`;
}

/** Not a chat, or not kept as a whole. @param {{ exchange: any }} props */
function Kept({ exchange }) {
  const body = exchange.openai_request;
  if (typeof body?.prompt === "string") return html`<${Message} message=${{ role: "user", content: body.prompt }} />`;
  if (body?.input !== undefined) return html`<${Message} message=${{ role: "user", content: typeof body.input === "string" ? body.input : JSON.stringify(body.input, null, 2) }} />`;
  return html`<${Empty} title="What was asked is not kept">Bodies are left out by the settings logging.logRequests, history.maxBody or retention.bodiesDays.<//>`;
}

/** @param {{ exchange: any, title?: string }} props */
export function Answer({ exchange, title }) {
  const answer = exchange.response;
  const message = answer?.openai_response?.choices?.[0]?.message;
  const who = [title, answer?.provider, answer?.upstream_model].filter(Boolean).join(" · ");
  if (!answer) {
    return html`<article class="message message-assistant" aria-label="Assistant"><header class="message-head"><h3>Assistant</h3></header>
      <div class="message-body"><p class="row muted"><${Spinner} /> The answer is under way.</p></div></article>`;
  }
  const note = `${who}${answer.duration_ms != null ? ` · ${duration(answer.duration_ms)}` : ""}`;
  const seams = exchange.attempts.filter((/** @type {any} */ attempt) => attempt.resumed_at != null);
  const text = partsOf(message?.content).map((part) => (part.kind === "text" ? part.text : "")).join("");
  return html`<article class="message message-assistant" aria-label="Assistant"><header class="message-head"><h3>Assistant</h3><span class="muted small">${note}</span></header>
    <div class="message-body">
      <${Thinking} text=${thinkingOf(message)} />
      ${parted(text, seams).map(({ seam, piece }) => html`${seam && html`<p class="seam"><span>${seam.provider_id} goes on from here</span></p>`}${piece && html`<${Said} text=${piece} />`}`)}
      ${callsOf(message).map((call) => html`<${ToolCall} key=${call.id} call=${call} />`)}
      ${!message && !answer.error && html`<p class="muted">The answer's text is not kept.</p>`}
      ${answer.error && html`<p class="request-failure"><strong>${answer.error_code ?? "error"}</strong> ${answer.error}</p>`}
      ${exchange.status === "client_closed" && html`<p class="muted">The client left before the end.</p>`}
    </div></article>`;
}

/** The text cut where another attempt went on; counted in characters, not in UTF-16. @param {string} text @param {any[]} seams */
function parted(text, seams) {
  if (!seams.length) return [{ seam: null, piece: text }];
  const characters = Array.from(text);
  const places = seams.map((seam) => Math.min(seam.resumed_at, characters.length));
  return [{ seam: null, piece: characters.slice(0, places[0]).join("") }, ...seams.map((seam, at) => ({ seam, piece: characters.slice(places[at], places[at + 1]).join("") }))];
}
