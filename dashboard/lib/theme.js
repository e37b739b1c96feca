/**
 * Light, dark, or as the system says. Loaded before everything else, so that the first paint has the right colours.
 * @module
 */
import { computed, effect, signal } from "./preact.js";

/** @typedef {"auto" | "light" | "dark"} Theme */
const KEY = "qwarden.theme";
const system = matchMedia("(prefers-color-scheme: dark)");
const systemDark = signal(system.matches);
system.addEventListener("change", () => (systemDark.value = system.matches));

/** What the user chose. */
export const theme = signal(/** @type {Theme} */ (kept(KEY) ?? "auto"));
/** What is shown: charts draw themselves again when it changes. */
export const dark = computed(() => (theme.value === "auto" ? systemDark.value : theme.value === "dark"));

effect(() => {
  document.documentElement.dataset.theme = dark.value ? "dark" : "light";
  keep(KEY, theme.value);
});

/** Auto, light, dark, and round again. */
export function nextTheme() {
  theme.value = /** @type {Theme} */ ({ auto: "light", light: "dark", dark: "auto" }[theme.value]);
}

/** What this browser remembers; null where it may not. @param {string} key @returns {string | null} */
export function kept(key) {
  try {
    return localStorage.getItem(key);
  } catch {
    return null;
  }
}

/** Makes this browser remember; not where it may not. @param {string} key @param {string} value */
export function keep(key, value) {
  try {
    localStorage.setItem(key, value);
  } catch {
    // Private windows may refuse: then it is forgotten.
  }
}
