/**
 * The conversation of this tab: kept in its session storage, and sent as any client would send it.
 * @module
 */
import { ApiError, needsLogin } from "../../lib/api.js";
import { nothingYet, take, whole } from "../../lib/completion.js";
import { parser } from "../../lib/events.js";
import { effect, signal } from "../../lib/preact.js";

/**
 * @typedef {object} Setup what is sent with every question
 * @property {string} model "" for the gateway's default
 * @property {string} system
 * @property {number | null} temperature
 * @property {number | null} top_p
 * @property {number | null} max_tokens
 * @property {string} reasoning_effort
 * @property {string} tools declarations as JSON
 * @property {string} more other parameters as JSON
 * @property {boolean} stream
 * @property {boolean} record
 */
/**
 * @typedef {object} Told how an answer came
 * @property {number | null} firstMs to its first content
 * @property {number} totalMs
 * @property {any} usage
 * @property {string | null} provider
 * @property {string | null} model
 * @property {number | null} attempts
 * @property {string | null} requestId
 * @property {string | null} finish
 * @property {boolean} stopped
 * @property {{ message: string, code: string, hint: string | null } | null} error
 */
/** @typedef {{ id: number, message: any, told?: Told }} Turn */
/** @typedef {{ answer: import("../../lib/completion.js").Assembled, began: number, first: number | null, controller: AbortController }} Under */

const KEY = "qwarden.chat";
const PATH = "/api/chat/completions";
/** @type {Setup} */
const FIRST = { model: "", system: "", temperature: null, top_p: null, max_tokens: null, reasoning_effort: "", tools: "", more: "", stream: true, record: false };

const before = kept();
export const setup = signal(/** @type {Setup} */ ({ ...FIRST, ...before?.setup }));
export const turns = signal(/** @type {Turn[]} */ (before?.turns ?? []));
/** The answer that is under way. */
export const under = signal(/** @type {Under | null} */ (null));
/** Changes as it grows, at the pace a screen can show. */
export const grown = signal(0);

effect(() => {
  const text = JSON.stringify({ setup: setup.value, turns: turns.value });
  try {
    sessionStorage.setItem(KEY, text);
  } catch {
    keepWithout();
  }
});

/** Pictures may be more than a browser keeps. */
function keepWithout() {
  const light = turns.value.map((turn) => (Array.isArray(turn.message.content) ? { ...turn, message: { ...turn.message, content: turn.message.content.filter((/** @type {any} */ part) => part.type === "text") } } : turn));
  try {
    sessionStorage.setItem(KEY, JSON.stringify({ setup: setup.value, turns: light }));
  } catch {
    // Then it lasts as long as the tab is not loaded again.
  }
}

/** @returns {any} */
function kept() {
  try {
    const found = JSON.parse(sessionStorage.getItem(KEY) ?? "null");
    return found && Array.isArray(found.turns) ? found : null;
  } catch {
    return null;
  }
}

/** @param {Partial<Setup>} changes */
export function change(changes) {
  setup.value = { ...setup.value, ...changes };
}

export function clear() {
  stop();
  turns.value = [];
}

export function stop() {
  under.value?.controller.abort();
}

/** @param {any} message @param {Told} [told] */
function add(message, told) {
  const id = (turns.value.at(-1)?.id ?? 0) + 1;
  turns.value = [...turns.value, { id, message, ...(told ? { told } : {}) }];
}

/** @param {string} text @param {string[]} pictures as data URLs */
export function ask(text, pictures) {
  const content = pictures.length ? [...(text ? [{ type: "text", text }] : []), ...pictures.map((url) => ({ type: "image_url", image_url: { url } }))] : text;
  add({ role: "user", content });
  return send();
}

/** The calls of the last answer that have no result yet. */
export function waitingCalls() {
  const last = turns.value.at(-1);
  return under.value || last?.message.role !== "assistant" ? [] : (last.message.tool_calls ?? []);
}

/** @param {Record<string, string>} results by the call's id */
export function give(results) {
  for (const call of waitingCalls()) turns.value = [...turns.value, { id: (turns.value.at(-1)?.id ?? 0) + 1, message: { role: "tool", tool_call_id: call.id, content: results[call.id] ?? "" } }];
  return send();
}

/** Asks once more for the last answer. */
export function again() {
  const last = turns.value.findLastIndex(({ message }) => message.role !== "assistant");
  if (last < 0) return Promise.resolve();
  turns.value = turns.value.slice(0, last + 1);
  return send();
}

/** Takes back a question with all that came after it. @param {number} id @returns {any} its message */
export function takeBack(id) {
  const at = turns.value.findIndex((turn) => turn.id === id);
  const turn = turns.value[at];
  turns.value = turns.value.slice(0, at);
  return turn?.message;
}

/** What is wrong with the JSON of a field, null when nothing is. @param {"tools" | "more"} name @param {string} text */
export function wrongWith(name, text) {
  if (!text.trim()) return null;
  try {
    const value = JSON.parse(text);
    if (name === "more") return value && typeof value === "object" && !Array.isArray(value) ? null : "must be a JSON object";
    const list = Array.isArray(value) ? value : [value];
    const nameless = list.findIndex((tool) => typeof (tool?.function?.name ?? tool?.name) !== "string");
    return nameless < 0 ? null : `tool ${nameless + 1} has no name`;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

/** The request as it is sent; fields that are not JSON are left out. @returns {any} */
export function body() {
  const { model, system, temperature, top_p, max_tokens, reasoning_effort, tools, more, stream } = setup.value;
  const declared = tools.trim() && !wrongWith("tools", tools) ? [JSON.parse(tools)].flat() : [];
  const messages = turns.value.filter(({ told, message }) => !told?.error || said(message)).map(({ message }) => sent(message));
  return {
    ...(model ? { model } : {}),
    messages: [...(system.trim() ? [{ role: "system", content: system }] : []), ...messages],
    ...(stream ? { stream: true, stream_options: { include_usage: true } } : {}),
    ...given({ temperature, top_p, max_tokens, reasoning_effort: reasoning_effort || null }),
    ...(declared.length ? { tools: declared.map((tool) => (tool.function ? tool : { type: "function", function: tool })) } : {}),
    ...(more.trim() && !wrongWith("more", more) ? JSON.parse(more) : {}),
  };
}

/** Thinking is not sent back. @param {any} message */
function sent({ reasoning_content, ...message }) {
  return message;
}

/** @param {any} message */
const said = (message) => Boolean(message.content || message.tool_calls?.length);

/** @param {Record<string, any>} values */
const given = (values) => Object.fromEntries(Object.entries(values).filter(([, value]) => value !== null && value !== undefined));

/** As a command for a shell. @param {string} root of the router port, without `/v1` */
export function curl(root) {
  const text = JSON.stringify(body(), null, 2).replaceAll("'", "'\\''");
  return `curl ${setup.value.stream ? "-N " : ""}${root}/v1/chat/completions \\\n  -H 'content-type: application/json' \\\n  -d '${text}'`;
}

/** Sends the conversation; its answer becomes the next turn, whatever happens. */
async function send() {
  if (under.value) return;
  const controller = new AbortController();
  const now = { answer: nothingYet(), began: performance.now(), first: /** @type {number | null} */ (null), controller };
  under.value = now;
  /** @type {Told} */
  const told = { firstMs: null, totalMs: 0, usage: null, provider: null, model: null, attempts: null, requestId: null, finish: null, stopped: false, error: null };
  let shown = 0;
  const grew = (/** @type {boolean} */ content) => {
    const at = performance.now();
    if (content) now.first ??= at;
    // Long answers take longer to lay out: they are shown less often.
    if (at - shown < Math.min(400, 16 + now.answer.text.length / 100)) return;
    shown = at;
    grown.value += 1;
  };
  try {
    const response = await fetch(PATH, {
      method: "POST",
      headers: { "content-type": "application/json", ...(setup.value.record ? { "x-qwarden-record": "true" } : {}) },
      body: JSON.stringify(body()),
      signal: controller.signal,
      credentials: "same-origin",
    });
    told.provider = response.headers.get("x-qwarden-provider");
    told.model = response.headers.get("x-qwarden-model");
    told.attempts = Number(response.headers.get("x-qwarden-attempts")) || null;
    told.requestId = response.headers.get("x-request-id")?.replace(/^req_/, "") ?? null;
    if (!response.ok) {
      if (response.status === 401 && !told.provider) needsLogin.value = true;
      throw new ApiError(response.status, await response.json().catch(() => null), response.headers);
    }
    if (response.headers.get("content-type")?.startsWith("text/event-stream") && response.body) {
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      const read = parser(({ data }) => grew(take(now.answer, data)));
      for (;;) {
        const { done, value } = await reader.read();
        if (done) break;
        read(value);
      }
    } else {
      now.answer = whole(await response.json()) ?? now.answer;
      grew(true);
    }
    if (now.answer.error) told.error = explained(new ApiError(200, { error: now.answer.error }));
  } catch (caught) {
    if (controller.signal.aborted) told.stopped = true;
    else told.error = explained(caught instanceof ApiError ? caught : new ApiError(0, { message: "the gateway cannot be reached" }));
  }
  const end = performance.now();
  told.totalMs = end - now.began;
  told.firstMs = now.first === null ? null : now.first - now.began;
  told.usage = now.answer.usage;
  told.finish = now.answer.finish;
  under.value = null;
  const { text, thinking, calls } = now.answer;
  // A call that was cut off cannot be answered.
  const whole_ = told.stopped || told.error ? [] : calls;
  const tool_calls = whole_.map((call, at) => ({ id: call.id || `call_${at}`, type: "function", function: { name: call.name, arguments: call.arguments } }));
  add({ role: "assistant", content: text || (tool_calls.length ? null : ""), ...(thinking ? { reasoning_content: thinking } : {}), ...(tool_calls.length ? { tool_calls } : {}) }, told);
}

/** @param {ApiError} error */
function explained(error) {
  return { message: error.message, code: error.code, hint: whatToDo(error) };
}

/** @param {ApiError} error */
function whatToDo({ status, code, hint, retryAfter }) {
  if (["model_not_found", "provider_not_found", "missing_model"].includes(code)) return "Choose a model from the list, or add a provider that has it.";
  if (code === "provider_disabled") return "Enable it on the page Providers, or choose another model.";
  if (/credential|login/.test(code)) return "Log in to Qwen on the page Credentials.";
  if (/unauthorized|invalid_api_key|authentication|upstream_auth/.test(code)) return "The provider refuses its key: look at the page Providers.";
  if (/timeout/.test(code)) return "The provider was silent for too long. Try again, or choose another model.";
  if (status === 429) return retryAfter ? `The provider is busy: try again in ${retryAfter} s.` : "The provider is busy: try again in a moment, or choose another model.";
  if (status === 413) return "Attach smaller pictures, or raise server.maxBodySize in the settings.";
  if (status === 400 && code !== "unknown") return "Change what is named in the message, then send it again.";
  return hint ?? (status >= 500 || status === 200 ? "Try again, or choose another model. The page Requests shows every attempt." : null);
}
