/**
 * The documents of an exchange as they are.
 * @module
 */
import { api, segment } from "../../lib/api.js";
import { bytes } from "../../lib/format.js";
import { html, useEffect, useState } from "../../lib/preact.js";
import { param, setQuery } from "../../lib/router.js";
import { Button, Code, CopyButton, ErrorState, Field, Loading } from "../../lib/ui.js";
import { bytesOf } from "./playback.js";

/** A browser takes seconds to lay out megabytes of text. */
const LONGEST = 100_000;

/** @param {{ exchange: any }} props */
export function Raw({ exchange }) {
  const answer = exchange.response;
  const documents = /** @type {[string, string, any][]} */ ([
    ["request", "Request", exchange.openai_request],
    ["response", "Response", answer?.openai_response],
    ["qwen_request", "Sent to Qwen", exchange.qwen_request],
    ["qwen_response", "Received from Qwen", answer?.qwen_response],
    ["plan", "Route plan", exchange.plan],
    ["row", "The whole row", { ...exchange, openai_request: undefined, qwen_request: undefined, response: answer && { ...answer, openai_response: undefined, qwen_response: undefined } }],
  ]).filter(([, , document]) => document !== null && document !== undefined);
  const options = [...documents.map(([value, label]) => ({ value, label })), ...(exchange.has_recording ? [{ value: "wire", label: "On the wire (recording)" }] : [])];
  const chosen = options.find(({ value }) => value === param("document"))?.value ?? options[0].value;
  return html`<div class="stack">
    <div class="toolbar"><${Field} name="document" label="Document" type="select" value=${chosen} options=${options} onInput=${(/** @type {string} */ value) => setQuery({ document: value })} /></div>
    ${chosen === "wire" ? html`<${Wire} exchange=${exchange} />` : html`<${Document} key=${chosen} text=${JSON.stringify(documents.find(([name]) => name === chosen)?.[2], null, 2)} />`}
  </div>`;
}

/** @param {{ text: string }} props */
function Document({ text }) {
  const [all, setAll] = useState(false);
  const shown = all || text.length <= LONGEST ? text : text.slice(0, LONGEST);
  return html`<div class="stack"><${Code} text=${shown} label="Content" copy=${shown === text} />
    ${shown !== text && html`<div class="row"><${Button} onClick=${() => setAll(true)}>Show all ${bytes(text.length)}<//><${CopyButton} text=${text} label="Copy all" small=${false}>Copy all<//></div>`}</div>`;
}

/** @param {{ exchange: any }} props */
function Wire({ exchange }) {
  const [loaded, setLoaded] = useState(/** @type {{ text?: string, error?: unknown }} */ ({}));
  const load = () => {
    const controller = new AbortController();
    api.get(`/api/requests/${segment(exchange.request_id)}/recording`, { signal: controller.signal }).then(
      (recording) => setLoaded({ text: told(recording) }),
      (error) => controller.signal.aborted || setLoaded({ error }),
    );
    return () => controller.abort();
  };
  useEffect(load, [exchange.request_id]);
  if (loaded.error) return html`<${ErrorState} error=${loaded.error} title="The recording could not be read" retry=${load} />`;
  if (loaded.text === undefined) return html`<${Loading} what="Loading the recording" />`;
  return html`<p class="muted">Headers by their names; only harmless ones have values. <a href=${`/api/requests/${segment(exchange.request_id)}/recording`} download=${`${exchange.request_id}.json`}>Download the recording</a> for <code>qwarden replay</code>.</p><${Document} text=${loaded.text} />`;
}

/** @param {any} recording */
function told(recording) {
  const lines = [];
  const decoder = new TextDecoder();
  const pieces = (/** @type {any[]} */ chunks, /** @type {string} */ mark) => {
    for (const chunk of chunks) lines.push(`${mark} +${chunk.at_ms} ms`, decoder.decode(bytesOf(chunk.data)).trimEnd());
  };
  for (const attempt of recording.attempts) {
    for (const call of attempt.calls) {
      lines.push(`== attempt ${attempt.number}: ${call.method} to ${attempt.provider}/${attempt.upstream_model} (${call.purpose}), +${call.at_ms} ms`);
      for (const [name, value] of Object.entries(call.request_headers)) lines.push(`> ${name}: ${value ?? "(not kept)"}`);
      if (call.request) lines.push(JSON.stringify(call.request, null, 2));
      if (call.response) {
        lines.push(`< ${call.response.status}, +${call.response.at_ms} ms`);
        for (const [name, value] of Object.entries(call.response.headers)) lines.push(`< ${name}: ${value}`);
        pieces(call.response.chunks, "<");
      } else lines.push(`< no answer: ${JSON.stringify(call.failure ?? "nobody waited any longer")}`);
      lines.push("");
    }
  }
  lines.push(`== to the client: ${recording.client.status}, ${recording.client.outcome}`);
  pieces(recording.client.chunks, "<");
  return lines.join("\n");
}
