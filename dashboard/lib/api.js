/**
 * Asking the management API: JSON in and out, every failure an `ApiError`.
 * @module
 */
import { signal } from "./preact.js";

/** The API wants the admin token: the shell shows the login form. */
export const needsLogin = signal(false);

/**
 * @typedef {object} Options
 * @property {Record<string, string | number | boolean | null | undefined>} [query] null and undefined are left out
 * @property {unknown} [body] sent as JSON
 * @property {string | null} [ifMatch] an `etag` of an earlier answer: 412 when it changed meanwhile
 * @property {string} [idempotencyKey]
 * @property {Record<string, string>} [headers]
 * @property {AbortSignal} [signal]
 */
/**
 * @typedef {object} Answer
 * @property {any} data
 * @property {string | null} etag for `ifMatch`
 * @property {number} status
 * @property {Headers} headers
 */

/** What the gateway (or the way to it) refused. */
export class ApiError extends Error {
  /** @param {number} status 0 when the gateway was not reached @param {any} envelope @param {Headers} [headers] */
  constructor(status, envelope, headers) {
    const error = typeof envelope?.error === "object" && envelope.error !== null ? envelope.error : {};
    super(String(error.message ?? envelope?.message ?? `the gateway answered ${status}`));
    this.name = "ApiError";
    this.status = status;
    /** @type {string} machine-readable, such as `provider_not_found` */
    this.code = String(error.code ?? (status === 0 ? "unreachable" : "unknown"));
    /** @type {string | null} the field that is meant, where it is one */
    this.param = error.param ?? null;
    /** @type {string[]} one sentence for each field that is wrong, the field in backticks */
    this.errors = Array.isArray(error.errors) ? error.errors.map(String) : [];
    /** @type {Record<string, any>} */
    this.details = error.details ?? {};
    /** @type {string | null} to be quoted to who runs the gateway */
    this.requestId = envelope?.requestId ?? headers?.get("x-request-id") ?? null;
    const after = Number(headers?.get("retry-after"));
    /** @type {number | null} seconds */
    this.retryAfter = Number.isFinite(after) && after > 0 ? after : null;
    /** @type {string | null} what to do about it */
    this.hint = this.details.hint ?? hint(this);
  }

  /** What is wrong with each field, by its name; what is about none is under "". */
  fields() {
    /** @type {Record<string, string>} */
    const byField = {};
    for (const sentence of this.errors) {
      const [, name, rest] = /^`([^`]+)`\s*(.*)$/s.exec(sentence) ?? [null, "", sentence];
      byField[String(name)] = rest;
    }
    if (this.param && !this.errors.length) byField[this.param] = this.message;
    return byField;
  }
}

/** @param {ApiError} error */
function hint({ status, code, retryAfter }) {
  if (status === 0) return "Is qwarden running? The page reconnects by itself.";
  if (status === 401) return "Log in with the admin token.";
  if (code === "admin_token_not_set") return "Make an admin token on the gateway's own machine: `qwarden token new`.";
  if (status === 412) return "Somebody changed it meanwhile: load it again, then repeat your change.";
  if (status === 429 || status === 503) return retryAfter ? `Try again in ${retryAfter} s.` : "Try again in a moment.";
  if (status === 404) return "It may have been deleted meanwhile.";
  return null;
}

/**
 * The whole answer; most callers want `api.get` and the like.
 * @param {string} method @param {string} path @param {Options} [options] @returns {Promise<Answer>}
 */
export async function request(method, path, options = {}) {
  /** @type {Record<string, string>} */
  const headers = { accept: "application/json", ...options.headers };
  if (options.body !== undefined) headers["content-type"] = "application/json";
  if (options.ifMatch) headers["if-match"] = options.ifMatch;
  if (options.idempotencyKey) headers["idempotency-key"] = options.idempotencyKey;
  /** @type {Response} */
  let response;
  try {
    response = await fetch(withQuery(path, options.query), {
      method,
      headers,
      body: options.body === undefined ? undefined : JSON.stringify(options.body),
      signal: options.signal,
      credentials: "same-origin",
    });
  } catch (cause) {
    if (options.signal?.aborted) throw cause;
    throw new ApiError(0, { message: "the gateway cannot be reached" });
  }
  const text = await response.text().catch(() => "");
  const data = parsed(text);
  if (response.ok) {
    return { data, etag: response.headers.get("etag"), status: response.status, headers: response.headers };
  }
  const error = new ApiError(response.status, data, response.headers);
  if (response.status === 401 && path !== "/api/auth/login") needsLogin.value = true;
  if (error.code === "admin_token_not_set" && method === "GET") needsLogin.value = true;
  throw error;
}

export const api = {
  /** @param {string} path @param {Options} [options] @returns {Promise<any>} */
  get: async (path, options) => (await request("GET", path, options)).data,
  /** @param {string} path @param {unknown} [body] @param {Options} [options] @returns {Promise<any>} */
  post: async (path, body, options) => (await request("POST", path, { ...options, body })).data,
  /** @param {string} path @param {unknown} body @param {Options} [options] @returns {Promise<any>} */
  put: async (path, body, options) => (await request("PUT", path, { ...options, body })).data,
  /** @param {string} path @param {unknown} body @param {Options} [options] @returns {Promise<any>} */
  patch: async (path, body, options) => (await request("PATCH", path, { ...options, body })).data,
  /** @param {string} path @param {Options} [options] @returns {Promise<any>} */
  delete: async (path, options) => (await request("DELETE", path, options)).data,
};

/**
 * A list page by page, by cursor: `for await (const page of pages("/api/requests", { query: { limit: 200 } }))`.
 * @param {string} path @param {Options} [options]
 * @returns {AsyncGenerator<any>} bodies of the list
 */
export async function* pages(path, options = {}) {
  /** @type {string | null} */
  let cursor = null;
  do {
    const body = await api.get(path, { ...options, query: { ...options.query, ...(cursor ? { cursor } : {}) } });
    yield body;
    cursor = body.next_cursor ?? null;
  } while (cursor);
}

/** Trades the admin token for a cookie of this browser. @param {string} token */
export async function login(token) {
  await api.post("/api/auth/login", { token });
  needsLogin.value = false;
}

export async function logout() {
  await api.post("/api/auth/logout");
}

/** A path segment made of a name that may hold anything. @param {string} name */
export const segment = (name) => encodeURIComponent(name);

/** @param {string} path @param {Options["query"]} [query] */
export function withQuery(path, query = {}) {
  const given = Object.entries(query).filter(([, value]) => value !== null && value !== undefined);
  if (!given.length) return path;
  return `${path}?${new URLSearchParams(given.map(([key, value]) => [key, String(value)]))}`;
}

/** @param {string} text */
function parsed(text) {
  if (!text) return null;
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}
