/**
 * What the command palette (Ctrl/Cmd-K) offers. Pages add theirs while they are shown.
 * @module
 */
import { signal, useEffect } from "./preact.js";

/**
 * @typedef {object} Command
 * @property {string} id
 * @property {string} title what it does: `Restart an actor`
 * @property {string} [group] where it belongs: the page's title
 * @property {string} [keywords] other words to find it by
 * @property {() => void} run
 */

export const commands = signal(/** @type {Command[]} */ ([]));
export const paletteOpen = signal(false);

/** @param {Command[]} more @returns {() => void} takes them back */
export function register(more) {
  commands.value = [...commands.value, ...more];
  return () => (commands.value = commands.value.filter((command) => !more.includes(command)));
}

/** For as long as the component lives. @param {Command[]} more @param {unknown[]} [inputs] made anew when these change */
export function useCommands(more, inputs = []) {
  useEffect(() => register(more), inputs);
}

/** Those with all the words, best first. @param {Command[]} all @param {string} words */
export function found(all, words) {
  const wanted = words.toLowerCase().split(/\s+/).filter(Boolean);
  const scored = all.map((command, at) => {
    const title = command.title.toLowerCase();
    const text = `${title} ${command.group ?? ""} ${command.keywords ?? ""}`.toLowerCase();
    const fits = wanted.every((word) => text.includes(word));
    const score = wanted.filter((word) => title.startsWith(word)).length * 2 + wanted.filter((word) => title.includes(word)).length;
    return { command, at, fits, score };
  });
  return scored.filter(({ fits }) => fits).sort((a, b) => b.score - a.score || a.at - b.at).map(({ command }) => command);
}
