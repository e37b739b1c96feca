/**
 * What a completion says: messages of OpenAI's API taken apart, and streams put together.
 * @module
 */

/** @typedef {{ id: string, name: string, arguments: string }} Call */
/** @typedef {{ kind: "text", text: string } | { kind: "image", url: string } | { kind: "other", value: unknown }} Part */
/**
 * @typedef {object} Assembled an answer as far as it has come
 * @property {string} text
 * @property {string} thinking
 * @property {Call[]} calls
 * @property {any} usage
 * @property {string | null} finish
 * @property {any} error what ended it
 */

/** @returns {Assembled} */
export const nothingYet = () => ({ text: "", thinking: "", calls: [], usage: null, finish: null, error: null });

/**
 * The answer with one more event of its stream; whether it brought content.
 * @param {Assembled} answer changed in place @param {any} event @returns {boolean}
 */
export function take(answer, event) {
  if (!event || typeof event !== "object") return false;
  if (event.error) answer.error = event.error;
  if (event.usage) answer.usage = event.usage;
  const choice = Array.isArray(event.choices) ? event.choices.find((/** @type {any} */ one) => (one?.index ?? 0) === 0) : null;
  if (!choice) return false;
  if (choice.finish_reason) answer.finish = String(choice.finish_reason);
  const delta = choice.delta ?? {};
  const thinking = said(delta.reasoning_content ?? delta.reasoning);
  const text = said(delta.content) + said(delta.refusal);
  answer.thinking += thinking;
  answer.text += text;
  const calls = Array.isArray(delta.tool_calls) ? delta.tool_calls : [];
  for (const call of calls) {
    const at = Number.isInteger(call?.index) && call.index >= 0 && call.index < 1_000 ? call.index : Math.max(0, answer.calls.length - 1);
    while (answer.calls.length <= at) answer.calls.push({ id: "", name: "", arguments: "" });
    const known = answer.calls[at];
    known.id ||= said(call?.id);
    known.name ||= said(call?.function?.name);
    known.arguments += said(call?.function?.arguments);
  }
  return Boolean(thinking || text || calls.length);
}

/** The same of an answer that came as one document. @param {any} document @returns {Assembled | null} */
export function whole(document) {
  const choice = document?.choices?.[0];
  if (!choice) return null;
  const message = choice.message ?? {};
  return {
    text: partsOf(message.content ?? choice.text).map((part) => (part.kind === "text" ? part.text : "")).join("") + said(message.refusal),
    thinking: thinkingOf(message),
    calls: callsOf(message),
    usage: document.usage ?? null,
    finish: choice.finish_reason ?? null,
    error: null,
  };
}

/** @param {any} content of a message @returns {Part[]} */
export function partsOf(content) {
  if (content === null || content === undefined || content === "") return [];
  if (typeof content === "string") return [{ kind: "text", text: content }];
  if (!Array.isArray(content)) return [{ kind: "other", value: content }];
  return content.map((/** @type {any} */ part) => {
    if (typeof part === "string") return { kind: "text", text: part };
    if (typeof part?.text === "string") return { kind: "text", text: part.text };
    const image = part?.image_url?.url ?? (typeof part?.image_url === "string" ? part.image_url : null);
    if (typeof image === "string") return { kind: "image", url: image };
    return { kind: "other", value: part };
  });
}

/** @param {any} message @returns {string} */
export function thinkingOf(message) {
  return said(message?.reasoning_content ?? message?.reasoning);
}

/** @param {any} message @returns {Call[]} */
export function callsOf(message) {
  const calls = Array.isArray(message?.tool_calls) ? message.tool_calls : message?.function_call ? [{ function: message.function_call }] : [];
  return calls.map((/** @type {any} */ call) => ({ id: said(call?.id), name: said(call?.function?.name), arguments: said(call?.function?.arguments) }));
}

/** JSON with indents where it is JSON, else as it is. @param {string} text */
export function pretty(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

/** @param {any} value */
const said = (value) => (typeof value === "string" ? value : "");

/** Why an answer ended, in words; nothing where it is simply over. @param {string | null | undefined} reason of OpenAI's API */
export function ending(reason) {
  return /** @type {Record<string, string>} */ ({ stop: "", length: "cut off at its limit", tool_calls: "calls tools", content_filter: "held back by a filter" })[reason ?? "stop"] ?? String(reason);
}
