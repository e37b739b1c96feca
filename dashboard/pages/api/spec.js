/**
 * The API's own description (OpenAPI 3.1), read for people.
 * @module
 */

/**
 * @typedef {object} Operation
 * @property {string} id
 * @property {string} method in upper case
 * @property {string} path
 * @property {string} tag
 * @property {string} summary
 * @property {string} description
 * @property {boolean} deprecated
 * @property {any[]} parameters
 * @property {any | null} body the schema of its JSON body
 * @property {{ status: string, description: string, type: string, schema: any }[]} responses
 */

const METHODS = ["get", "post", "put", "patch", "delete"];

/** All operations, by path. @param {any} document @returns {Operation[]} */
export function operations(document) {
  return Object.entries(document.paths ?? {}).flatMap(([path, item]) =>
    METHODS.filter((method) => item[method]).map((method) => {
      const one = item[method];
      const [summary, ...rest] = String(one.summary ?? one.description ?? "").split(/(?<=[.:;])\s/);
      return {
        id: one.operationId,
        method: method.toUpperCase(),
        path,
        tag: one.tags?.[0] ?? "other",
        summary: one.summary ?? summary,
        description: one.description ?? rest.join(" "),
        deprecated: one.deprecated === true,
        parameters: [...(item.parameters ?? []), ...(one.parameters ?? [])],
        body: one.requestBody?.content?.["application/json"]?.schema ?? null,
        responses: Object.entries(one.responses ?? {}).map(([status, answer]) => {
          const [type, content] = Object.entries(answer.content ?? {})[0] ?? ["", null];
          return { status, description: answer.description ?? "", type, schema: content?.schema ?? null };
        }),
      };
    }),
  );
}

/** A schema without references, and its parts together. @param {any} document @param {any} schema @returns {any} */
export function resolved(document, schema) {
  let now = schema ?? {};
  for (let steps = 0; now.$ref && steps < 20; steps += 1) {
    const { $ref, ...beside } = now;
    now = { title: $ref.split("/").pop(), ...document.components?.schemas?.[$ref.split("/").pop()], ...beside };
  }
  if (!now.allOf) return now;
  const parts = now.allOf.map((/** @type {any} */ part) => resolved(document, part));
  return {
    ...now,
    allOf: undefined,
    type: "object",
    properties: Object.assign({}, ...parts.map((/** @type {any} */ { properties }) => properties), now.properties),
    required: [...parts.flatMap((/** @type {any} */ { required }) => required ?? []), ...(now.required ?? [])],
  };
}

/** `array of string`, `integer or null`. @param {any} document @param {any} schema @returns {string} */
export function typeOf(document, schema) {
  const { type, format, items, oneOf, anyOf, enum: words, title, const: only, additionalProperties: values, properties } = resolved(document, schema);
  if (only !== undefined) return JSON.stringify(only);
  if (words) return words.map((/** @type {any} */ word) => JSON.stringify(word)).join(" or ");
  const either = oneOf ?? anyOf;
  if (either) return [...new Set(either.map((/** @type {any} */ one) => typeOf(document, one)))].join(" or ");
  const types = [type].flat().filter(Boolean);
  return types.map((/** @type {string} */ one) => {
    if (one === "array") return `array of ${items ? typeOf(document, items) : "anything"}`;
    if (one === "object" && !properties && values && values !== true) return `map of ${typeOf(document, values)}`;
    if (one === "object" && title) return title;
    return format && one === "string" ? `${one} (${format})` : one;
  }).join(" or ") || "anything";
}

/** The schema whose members are worth showing: an object's, also within an array, or beside null. @param {any} document @param {any} schema @returns {any | null} */
export function inside(document, schema) {
  const now = resolved(document, schema);
  if (now.properties) return now;
  if (now.items) return inside(document, now.items);
  if (typeof now.additionalProperties === "object") return inside(document, now.additionalProperties);
  for (const one of now.oneOf ?? now.anyOf ?? []) {
    const found = inside(document, one);
    if (found) return found;
  }
  return null;
}

/** A value that fits, with what must be there. @param {any} document @param {any} schema @param {number} [depth] @returns {any} */
export function example(document, schema, depth = 0) {
  const now = resolved(document, schema);
  if (now.example !== undefined) return now.example;
  if (now.default !== undefined) return now.default;
  if (now.enum) return now.enum[0];
  if (now.oneOf ?? now.anyOf) return example(document, (now.oneOf ?? now.anyOf).find((/** @type {any} */ one) => one.type !== "null") ?? {}, depth);
  const type = [now.type].flat().find((/** @type {string} */ one) => one !== "null");
  if (type === "object" || now.properties) {
    const wanted = Object.entries(now.properties ?? {}).filter(([name]) => now.required?.includes(name));
    return depth > 3 ? {} : Object.fromEntries(wanted.map(([name, one]) => [name, example(document, one, depth + 1)]));
  }
  if (type === "array") return depth > 3 ? [] : [example(document, now.items, depth + 1)];
  if (type === "integer" || type === "number") return now.minimum ?? 0;
  if (type === "boolean") return false;
  return type === "string" ? "…" : null;
}

/** Text with `code` in it, by turns. @param {string} text @returns {string[]} every second one is code */
export const spans = (text) => text.split("`");

/** For a POSIX shell. @param {Operation} operation @param {string} address @param {any} body */
export function curl({ method }, address, body) {
  const quoted = (/** @type {string} */ text) => `'${text.replaceAll("'", "'\\''")}'`;
  const parts = [`curl${method === "GET" ? "" : ` -X ${method}`} ${quoted(address)}`];
  if (body !== null) parts.push(`-H 'content-type: application/json'`, `-d ${quoted(JSON.stringify(body))}`);
  return parts.join(" \\\n  ");
}
