/**
 * A stream once more as the client got it, at its real pace: from the recording. Without one, what is stored of its answer.
 * @module
 */
import { api, segment } from "../../lib/api.js";
import { nothingYet, take, whole } from "../../lib/completion.js";
import { Said, Thinking, ToolCall } from "../../lib/conversation.js";
import { parser } from "../../lib/events.js";
import { duration, number } from "../../lib/format.js";
import { PlayIcon, StopIcon } from "../../lib/icons.js";
import { html, useEffect, useRef, useState } from "../../lib/preact.js";
import { Button, Code, ErrorState, Field, Loading } from "../../lib/ui.js";

/** @typedef {{ at: number, event: any }} Step */

const SPEEDS = ["0.25", "0.5", "1", "2", "4", "10"];

/** @param {{ exchange: any }} props */
export function Playback({ exchange }) {
  const [loaded, setLoaded] = useState(/** @type {{ steps?: Step[], cut?: boolean, error?: unknown }} */ ({}));
  const load = () => {
    const controller = new AbortController();
    setLoaded({});
    api.get(`/api/requests/${segment(exchange.request_id)}/recording`, { signal: controller.signal }).then(
      (recording) => setLoaded({ steps: stepsOf(recording), cut: recording.cut }),
      (error) => controller.signal.aborted || setLoaded({ error }),
    );
    return () => controller.abort();
  };
  useEffect(() => (exchange.has_recording ? load() : undefined), [exchange.request_id, exchange.has_recording]);
  if (!exchange.has_recording) return html`<${Stored} exchange=${exchange} />`;
  if (loaded.error) return html`<${ErrorState} error=${loaded.error} title="The recording could not be read" retry=${load} />`;
  if (!loaded.steps) return html`<${Loading} what="Loading the recording" />`;
  return html`<${Player} steps=${loaded.steps} cut=${Boolean(loaded.cut)} />`;
}

/** @param {{ exchange: any }} props */
function Stored({ exchange }) {
  const answer = whole(exchange.response?.openai_response);
  return html`<div class="stack"><p class="muted">This stream was not recorded, so only its answer is known, not its pace. To record streams send the header <code>x-qwarden-record: true</code>,
      or set <a href="/settings?q=history.record"><code>history.record</code></a> to <code>all</code>.</p>
    ${answer && html`<${So} answer=${answer} live=${false} />`}</div>`;
}

/** @param {{ steps: Step[], cut: boolean }} props */
function Player({ steps, cut }) {
  const length = Math.max(1, steps.at(-1)?.at ?? 0);
  const [at, setAt] = useState(length);
  const [playing, setPlaying] = useState(false);
  const [speed, setSpeed] = useState("1");
  const clock = useRef(at);
  useEffect(() => {
    if (!playing) return;
    let before = performance.now();
    let asked = 0;
    const tick = (/** @type {number} */ now) => {
      clock.current = Math.min(length, clock.current + Math.max(0, now - before) * Number(speed));
      before = now;
      setAt(clock.current);
      if (clock.current >= length) setPlaying(false);
      else asked = requestAnimationFrame(tick);
    };
    asked = requestAnimationFrame(tick);
    return () => cancelAnimationFrame(asked);
  }, [playing, speed, length]);
  const to = (/** @type {number} */ ms) => {
    clock.current = ms;
    setAt(ms);
  };
  const answer = nothingYet();
  let pieces = 0;
  for (const step of steps) {
    if (step.at > at) break;
    if (take(answer, step.event)) pieces += 1;
  }
  return html`<div class="stack">
    <div class="toolbar player">
      <${Button} kind="primary" onClick=${() => {
        if (!playing && clock.current >= length) to(0);
        setPlaying(!playing);
      }}>${playing ? html`<${StopIcon} size="15" />Pause` : html`<${PlayIcon} size="15" />Play`}<//>
      <div class="field grow"><label for="player-at">${duration(at)} of ${duration(length)} · ${number(pieces)} pieces</label>
        <input id="player-at" type="range" min="0" max=${length} step="1" value=${Math.round(at)} onInput=${(/** @type {any} */ event) => (setPlaying(false), to(Number(event.currentTarget.value)))} /></div>
      <${Field} name="speed" label="Speed" type="select" value=${speed} onInput=${setSpeed} options=${SPEEDS.map((value) => ({ value, label: `${value}×` }))} />
    </div>
    ${cut && html`<p class="muted">The recording is cut off: there was more than history.recordMaxBytes allows.</p>`}
    <${So} answer=${answer} live=${playing} />
    <details class="thinking"><summary>Pieces with their times</summary><${Code} text=${told(steps)} label="Pieces" /></details>
  </div>`;
}

/** @param {{ answer: import("../../lib/completion.js").Assembled, live: boolean }} props */
function So({ answer, live }) {
  return html`<article class="message message-assistant" aria-label="Assistant" data-test="playback"><header class="message-head"><h3>Assistant</h3><span class="muted small">${answer.finish ?? (live ? "streaming" : "")}</span></header>
    <div class="message-body"><${Thinking} text=${answer.thinking} open=${live && !answer.text} />
      ${answer.text && html`<${Said} text=${answer.text} />`}${answer.calls.map((call) => html`<${ToolCall} key=${call.id} call=${call} />`)}
      ${answer.error && html`<p class="request-failure"><strong>${String(answer.error.code ?? "error")}</strong> ${String(answer.error.message ?? "")}</p>`}
      ${!answer.text && !answer.thinking && !answer.calls.length && !answer.error && html`<p class="muted">Nothing yet.</p>`}</div></article>`;
}

/** @param {any} recording @returns {Step[]} */
export function stepsOf(recording) {
  /** @type {Step[]} */
  const steps = [];
  const decoder = new TextDecoder();
  let at = 0;
  const read = parser(({ data }) => void steps.push({ at, event: data }));
  const chunks = recording.client?.chunks ?? [];
  const whole = recording.client?.form === "whole";
  let text = "";
  for (const chunk of chunks) {
    at = chunk.at_ms;
    const piece = decoder.decode(bytesOf(chunk.data), { stream: true });
    if (whole) text += piece;
    else read(piece);
  }
  if (whole) {
    try {
      const document = JSON.parse(text);
      steps.push({ at, event: { ...document, choices: [{ index: 0, delta: document.choices?.[0]?.message ?? {}, finish_reason: document.choices?.[0]?.finish_reason }] } });
    } catch {
      // Cut off: nothing can be told of it.
    }
  }
  return steps;
}

/** @param {string} base64 */
export function bytesOf(base64) {
  return Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
}

/** @param {Step[]} steps */
function told(steps) {
  const lines = steps.slice(0, 2_000).map(({ at, event }) => `${String(at).padStart(7)} ms  ${typeof event === "string" ? event : JSON.stringify(event)}`);
  return lines.join("\n") + (steps.length > 2_000 ? `\n… and ${steps.length - 2_000} more` : "");
}
