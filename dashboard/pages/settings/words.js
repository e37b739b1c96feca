/**
 * How settings are told to people: sections, names, units, and what a value may be.
 * @module
 */
import { bytes, duration, number } from "../../lib/format.js";

/**
 * @typedef {object} Setting as `GET /api/settings?details=true` tells it
 * @property {string} key
 * @property {any} value
 * @property {string} category
 * @property {boolean} requiresRestart
 * @property {boolean} isDefault
 * @property {number | null} updated_at
 * @property {any} default
 * @property {"integer" | "boolean" | "string"} type
 * @property {Record<string, any>} constraints in JSON Schema's words
 * @property {string} description
 * @property {string | null} env
 */

/** The sections in their order, and the categories (first parts of keys) that are in each. A new category is under the last. */
export const SECTIONS = [
  { id: "routing", title: "Routing", lead: "Which provider answers, and what happens when it does not.", categories: ["provider", "routing", "tools"] },
  { id: "server", title: "Ports and limits", lead: "Where the gateway listens, and how much it takes on.", categories: ["server", "ollama", "network"] },
  { id: "access", title: "Access", lead: "Who may use the gateway and this dashboard.", categories: ["auth", "cors", "security"] },
  { id: "qwen", title: "Qwen", lead: "The web chat behind your Qwen logins.", categories: ["qwen", "session"] },
  { id: "history", title: "History", lead: "What is kept of requests and answers, and for how long.", categories: ["history", "logging", "retention"] },
  { id: "cache", title: "Answer cache", lead: "Repeated questions of temperature 0 without asking a model again.", categories: ["cache"] },
  { id: "backup", title: "Backups", lead: "Copies of the database, made beside serving.", categories: ["backup"] },
  { id: "system", title: "System", lead: "What happens at the start, and what is for desktop shells.", categories: ["system"] },
];

/** @param {string} category */
export const sectionOf = (category) => SECTIONS.find(({ categories }) => categories.includes(category)) ?? SECTIONS[SECTIONS.length - 1];

/** Names that the key does not give. */
const NAMES = /** @type {Record<string, string>} */ ({
  active_provider: "Default provider",
  active_model: "Default model",
  "server.apiPort": "Management port",
  "server.qwenPort": "Qwen proxy port",
  "server.port": "Router port",
  "server.host": "Listen address",
  "server.hostNames": "Host names",
  "server.timeout": "Upstream timeout",
  "server.maxBody": "Largest request",
  "ollama.port": "Ollama port",
  "network.proxy": "Outgoing proxy",
  "qwen.baseUrl": "Site address",
  "qwen.maxInFlight": "Requests per login",
  "session.timeout": "Conversation lifetime",
  "session.cleanupInterval": "Clean-up interval",
  "cors.origins": "Allowed origins",
  "auth.required": "Admin token needed by",
  "auth.requireKeys": "API keys needed by",
  "security.keyring": "Use the keyring",
  "logging.level": "Log level",
  "logging.logRequests": "Keep requests",
  "logging.logResponses": "Keep answers",
  "retention.days": "Keep exchanges for",
  "retention.bodiesDays": "Keep bodies for",
  "retention.auditDays": "Keep the audit log for",
  "retention.maxSizeMb": "Largest database",
  "routing.fallbacks": "Fall back",
  "routing.hedge": "Ask two at once",
  "routing.midStream": "Go on mid-answer",
  "routing.queue": "Queue length",
  "tools.repeat": "Repeat for a tool call",
  "tools.streaming": "Tool calls in streams",
  "qwen.prewarm": "Keep a chat ready",
  "qwen.deleteChats": "Delete chats at the site",
  "system.autoStart": "Start the gateway",
  "system.discovery": "Find local servers",
  "history.commitWait": "Wait for the row",
  "cache.enabled": "Cache answers",
  "cache.ttl": "Lifetime",
  "cache.maxBytes": "Size",
  "cache.maxEntries": "Answers",
  "backup.everyHours": "Back up every",
  "backup.keep": "Backups kept",
  "history.maxBody": "Largest body kept",
  "history.record": "Record raw bytes",
  "history.recordMaxBytes": "Largest recording",
  "history.search": "Full-text search",
});

/** `server.maxInFlight` -> `Max in flight`. @param {string} key */
export function nameOf(key) {
  if (NAMES[key]) return NAMES[key];
  const last = key.split(".").pop() ?? key;
  const text = last.replaceAll("_", " ").replace(/([a-z])([A-Z])/g, "$1 $2").toLowerCase();
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** The unit that a description begins with. @param {Setting} setting @returns {"ms" | "bytes" | "MiB" | "days" | "hours" | ""} */
export function unitOf({ type, description }) {
  const [, unit = ""] = /^(ms|bytes|MiB|days|hours)\b/.exec(description) ?? [];
  return type === "integer" ? /** @type {any} */ (unit) : "";
}

/** @param {string} description */
export function sentence(description) {
  const text = description.replace(/^ms\b/, "milliseconds");
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;
}

/** A value as people read it: `2 min 0 s`, `32 MiB`. @param {Setting} setting @param {any} value */
export function readable(setting, value) {
  if (value === null || value === undefined || value === "") return "none";
  if (typeof value === "boolean") return value ? "on" : "off";
  if (typeof value !== "number") return String(value);
  const unit = unitOf(setting);
  if (unit === "ms") return duration(value).replace(/\.0+(?= )/, "").replace(/(?<=[a-z]) 0 (s|min|h)$/, "");
  if (unit === "bytes") return bytes(value);
  return unit ? `${number(value)} ${unit}` : String(value);
}

/** What is wrong with a value, before the gateway is asked. @param {Setting} setting @param {any} value @returns {string | null} */
export function fault(setting, value) {
  const { type, constraints = {} } = setting;
  const { minimum: least, maximum: most, enum: words, maxLength } = constraints;
  if (type === "integer") {
    const wanted = `must be a whole number from ${number(least)} to ${number(most)}`;
    if (typeof value !== "number" || !Number.isInteger(value)) return wanted;
    return value < least || value > most ? wanted : null;
  }
  if (words && !words.includes(value)) return `must be one of ${words.join(", ")}`;
  if (type === "string" && maxLength && String(value).length > maxLength) return `must have at most ${number(maxLength)} characters`;
  return null;
}

/** Whether it is found by what is looked for. @param {Setting} setting @param {string} wanted in lower case */
export function matches(setting, wanted) {
  const text = `${setting.key} ${nameOf(setting.key)} ${setting.description} ${setting.env ?? ""} ${sectionOf(setting.category).title}`.toLowerCase();
  return wanted.split(/\s+/).every((word) => text.includes(word));
}
