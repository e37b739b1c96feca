import { commands, found, paletteOpen } from "../commands.js";
import { html, useEffect, useId, useState } from "../preact.js";
import { Dialog } from "./dialog.js";

document.addEventListener("keydown", (event) => {
  if ((event.ctrlKey || event.metaKey) && !event.shiftKey && !event.altKey && event.key.toLowerCase() === "k") {
    event.preventDefault();
    paletteOpen.value = !paletteOpen.value;
  }
});

/** Everything by name, from the keyboard; the shell has it. */
export function CommandPalette() {
  return paletteOpen.value ? html`<${Palette} />` : null;
}

function Palette() {
  const [words, setWords] = useState("");
  const [at, setAt] = useState(0);
  const id = useId();
  const list = found(commands.value, words).slice(0, 50);
  const close = () => void (paletteOpen.value = false);
  const run = (/** @type {number} */ index) => {
    const command = list[index];
    if (!command) return;
    close();
    // After the dialog gave the focus back, which the command may move.
    setTimeout(command.run);
  };
  const key = (/** @type {KeyboardEvent} */ event) => {
    const to = { ArrowDown: at + 1, ArrowUp: at - 1 }[event.key];
    if (to !== undefined && list.length) {
      event.preventDefault();
      setAt((to + list.length) % list.length);
    } else if (event.key === "Enter") {
      event.preventDefault();
      run(at);
    }
  };
  useEffect(() => document.getElementById(`${id}-${at}`)?.scrollIntoView({ block: "nearest" }), [at]);
  return html`<${Dialog} title="Commands" onClose=${close}>
    <input class="palette-input" type="text" autofocus role="combobox" aria-expanded="true" aria-controls=${`${id}-list`} aria-label="Search commands"
      aria-activedescendant=${list.length ? `${id}-${at}` : undefined} placeholder="Go to a page, or do something…" value=${words} onKeyDown=${key}
      onInput=${(/** @type {any} */ event) => {
        setWords(event.currentTarget.value);
        setAt(0);
      }} />
    ${list.length === 0 && html`<p class="muted palette-none">Nothing has that name.</p>`}
    <ul class="palette-list" id=${`${id}-list`} role="listbox" aria-label="Commands">
      ${list.map(
        (command, index) => html`<li key=${command.id} id=${`${id}-${index}`} role="option" aria-selected=${index === at ? "true" : "false"}
          onMouseMove=${() => setAt(index)} onClick=${() => run(index)}><span>${command.title}</span><span class="muted small">${command.group}</span></li>`,
      )}
    </ul>
  <//>`;
}
