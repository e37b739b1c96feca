/**
 * The turns of the conversation, and the one that is under way.
 * @module
 */
import { ending, partsOf } from "../../lib/completion.js";
import { Message, Said, Thinking, ToolCall } from "../../lib/conversation.js";
import { duration, number } from "../../lib/format.js";
import { RefreshIcon, WarnIcon } from "../../lib/icons.js";
import { html, useState } from "../../lib/preact.js";
import { Button, CopyButton, Spinner } from "../../lib/ui.js";
import { again, give, grown, takeBack, turns, under, waitingCalls } from "./state.js";

/** @param {{ onEdit: (draft: { text: string, pictures: string[] }) => void }} props */
export function Turns({ onEdit }) {
  const all = turns.value;
  const busy = under.value !== null;
  const edit = (/** @type {number} */ id) => {
    const parts = partsOf(takeBack(id)?.content);
    onEdit({ text: parts.map((part) => (part.kind === "text" ? part.text : "")).join(""), pictures: parts.flatMap((part) => (part.kind === "image" ? [part.url] : [])) });
  };
  return html`<div class="messages" role="log" aria-label="Conversation" aria-live="off" data-test="turns">
    ${all.map(({ id, message, told }, at) => {
      const last = at === all.length - 1 && !busy;
      const text = partsOf(message.content).map((part) => (part.kind === "text" ? part.text : "")).join("");
      const actions = html`${text && html`<${CopyButton} text=${text} label="Copy the text" />`}
        ${message.role === "user" && !busy && html`<${Button} small kind="ghost" label="Edit and ask again" onClick=${() => edit(id)}>Edit<//>`}
        ${message.role === "assistant" && last && html`<${Button} small kind="ghost" label="Ask again" onClick=${() => again()}><${RefreshIcon} size="15" /><//>`}`;
      return html`<${Message} key=${id} message=${message} note=${told ? [told.provider, told.model].filter(Boolean).join(" · ") : message.tool_call_id} actions=${actions}>
        ${told && html`<${Ended} told=${told} empty=${!text && !message.tool_calls?.length} retry=${last} />`}<//>`;
    })}
    ${busy && html`<${Coming} />`}
    ${waitingCalls().length > 0 && html`<${Results} key=${all.at(-1)?.id} calls=${waitingCalls()} />`}
    <div class="sr-only" role="status">${busy ? "The answer is coming" : all.at(-1)?.told ? "The answer is here" : ""}</div>
  </div>`;
}

function Coming() {
  void grown.value;
  const now = under.value;
  if (!now) return null;
  const { text, thinking, calls } = now.answer;
  return html`<article class="message message-assistant" aria-label="Assistant" aria-busy="true"><header class="message-head"><h3>Assistant</h3><span class="muted small">${text ? "answers" : thinking ? "thinks" : "is asked"}</span><${Spinner} /></header>
    <div class="message-body"><${Thinking} text=${thinking} open=${!text} />${text && html`<${Said} text=${text} />`}
      ${calls.map((call, at) => html`<${ToolCall} key=${at} call=${call} />`)}</div></article>`;
}

/** @param {{ told: import("./state.js").Told, empty: boolean, retry: boolean }} props */
function Ended({ told, empty, retry }) {
  const { usage, firstMs, totalMs } = told;
  const streamed = firstMs === null ? 0 : totalMs - firstMs;
  // What came in one piece was not generated in no time.
  const seconds = (streamed > 50 ? streamed : totalMs) / 1_000;
  const speed = usage?.completion_tokens && seconds > 0 ? usage.completion_tokens / seconds : null;
  const thought = usage?.completion_tokens_details?.reasoning_tokens;
  return html`
    ${told.error && html`<div class="chat-error" role="alert"><${WarnIcon} size="18" /><div><p><strong>${told.error.message}</strong></p>${told.error.hint && html`<p>${told.error.hint}</p>`}
      <div class="row">${retry && html`<${Button} small onClick=${() => again()}>Try again<//>`}${told.requestId && html`<a href=${`/requests/${encodeURIComponent(told.requestId)}?tab=timing`}>What happened</a>`}</div></div></div>`}
    ${told.stopped && html`<p class="muted">Stopped${empty ? " before anything came" : ""}.</p>`}
    ${!told.error && !told.stopped && empty && html`<p class="muted">The model answered with nothing.</p>`}
    <dl class="chat-facts small muted" data-test="facts">
      ${firstMs !== null && html`<div><dt>First token</dt><dd>${duration(firstMs)}</dd></div>`}
      <div><dt>Took</dt><dd>${duration(totalMs)}</dd></div>
      ${speed !== null && html`<div><dt>Speed</dt><dd>${number(speed, speed < 10 ? 1 : 0)} tokens/s</dd></div>`}
      ${usage && html`<div><dt>Tokens</dt><dd>${number(usage.prompt_tokens)} in, ${number(usage.completion_tokens)} out${thought ? ` (${number(thought)} thinking)` : ""}</dd></div>`}
      ${told.attempts !== null && told.attempts > 1 && html`<div><dt>Attempts</dt><dd>${number(told.attempts)}</dd></div>`}
      ${ending(told.finish) && html`<div><dt>Ended</dt><dd>${ending(told.finish)}</dd></div>`}
      ${told.requestId && !told.error && html`<div><dt class="sr-only">In the history</dt><dd><a href=${`/requests/${encodeURIComponent(told.requestId)}`}>Details</a></dd></div>`}
    </dl>`;
}

/** What the tools would say: the user plays them. @param {{ calls: any[] }} props */
function Results({ calls }) {
  const [results, setResults] = useState(/** @type {Record<string, string>} */ ({}));
  return html`<form class="message message-tool" aria-label="Results of the tools" onSubmit=${(/** @type {Event} */ event) => {
    event.preventDefault();
    void give(results);
  }}><div class="message-body chat-results">
    ${calls.map((call, at) => html`<div key=${call.id} class="field"><label for=${`result-${at}`}>Result of ${call.function.name}</label>
      <textarea id=${`result-${at}`} class="mono" rows="3" placeholder="What the tool says, such as JSON" value=${results[call.id] ?? ""} onInput=${(/** @type {any} */ event) => setResults({ ...results, [call.id]: event.currentTarget.value })}></textarea></div>`)}
    <div class="row"><${Button} type="submit" kind="primary">Go on with ${calls.length === 1 ? "this result" : "these results"}<//></div>
  </div></form>`;
}
