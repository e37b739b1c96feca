/**
 * How providers and their models do, in words.
 * @module
 */
import { duration, plural, words } from "./format.js";

/** @typedef {"neutral" | "good" | "warn" | "bad" | "info"} Tone */
/** @typedef {{ tone: Tone, word: string, why: string, isTrouble: boolean }} Standing */

/** What a breaker, or a rest, does to a node of the routing. @param {any} node @returns {Standing | null} null: nothing keeps it from being asked */
export function held(node) {
  const last = node.last_error ? ` Last: ${words(node.last_error).toLowerCase()}.` : "";
  if (node.breaker === "open") {
    const again = node.reopens_in_ms ? `, tried in ${duration(node.reopens_in_ms)}` : "";
    return { tone: "bad", word: `Breaker open${again}`, why: `It failed ${node.failures_in_row} times in a row, so it is left alone for a while.${last}`, isTrouble: true };
  }
  if (node.breaker === "half_open") return { tone: "warn", word: "Being tried", why: `One request finds out whether it is well again.${last}`, isTrouble: true };
  if (node.resting_for_ms) return { tone: "warn", word: `Resting ${duration(node.resting_for_ms)}`, why: `It asked to be left alone for so long.${last}`, isTrouble: true };
  return null;
}

/** @param {any} provider of `/api/providers` @returns {Standing} */
export function standing(provider) {
  const { health } = provider;
  if (!provider.enabled) {
    if (provider.auto_enable) return { tone: "neutral", word: "Waits for its server", why: "It is enabled by itself when its local server is first seen.", isTrouble: false };
    return { tone: "neutral", word: "Disabled", why: "No request goes to it.", isTrouble: false };
  }
  if (provider.runtime_status !== "loaded") return { tone: "bad", word: "Cannot be used", why: health.error ?? "Its configuration is not enough.", isTrouble: true };
  const kept = held(health);
  if (kept) return kept;
  if (health.state === "unhealthy") return { tone: "warn", word: "Does not answer", why: health.error ?? "It did not list its models.", isTrouble: true };
  const broken = health.models.filter((/** @type {any} */ model) => held(model)).length;
  if (broken) return { tone: "warn", word: `${plural(broken, "model")} held back`, why: "The breaker of a model is open, or it rests; others are asked.", isTrouble: true };
  if (health.state === "unknown") return { tone: "info", word: "Not asked yet", why: "It is asked for its models when somebody wants them.", isTrouble: false };
  return { tone: "good", word: "Healthy", why: "It lists its models, and no breaker is open.", isTrouble: false };
}

/** Milliseconds to the first content over its models that were used; null when none was. @param {any} provider @returns {number | null} */
export function firstContent(provider) {
  const known = provider.health.models.map((/** @type {any} */ model) => model.latency_ms).filter((/** @type {any} */ ms) => typeof ms === "number");
  return known.length ? Math.min(...known) : null;
}
