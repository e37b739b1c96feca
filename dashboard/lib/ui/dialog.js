import { CloseIcon } from "../icons.js";
import { html, signal, useEffect, useId, useRef } from "../preact.js";
import { Button } from "./basics.js";
import { Field } from "./form.js";

/** @typedef {import("../preact.js").Children} Children */

/**
 * A native modal dialog: it keeps the focus, closes with Escape, and gives the focus back. Render it only while it is open.
 * @param {{ title: string, onClose: () => void, wide?: boolean, footer?: Children, children?: Children }} props
 */
export function Dialog({ title, onClose, wide = false, footer, children }) {
  const box = useRef(/** @type {HTMLDialogElement | null} */ (null));
  const heading = useId();
  useEffect(() => {
    const dialog = box.current;
    const before = document.activeElement;
    dialog?.showModal();
    // A form is filled in: its first field is where one begins, not the button that closes it.
    if (dialog?.querySelector(":scope > .dialog-box > header :focus")) /** @type {HTMLElement | null} */ (dialog.querySelector(".dialog-body :is(input, textarea, select):not([type=checkbox], [readonly])"))?.focus();
    return () => {
      dialog?.close();
      if (before instanceof HTMLElement && before.isConnected) before.focus();
    };
  }, []);
  const outside = (/** @type {MouseEvent} */ event) => {
    if (event.target === box.current) onClose();
  };
  const cancel = (/** @type {Event} */ event) => {
    event.preventDefault();
    onClose();
  };
  return html`<dialog ref=${box} class=${`dialog${wide ? " dialog-wide" : ""}`} aria-labelledby=${heading} onCancel=${cancel} onMouseDown=${outside}>
    <div class="dialog-box">
      <header><h2 id=${heading}>${title}</h2><${Button} kind="ghost" small label="Close" onClick=${onClose}><${CloseIcon} /><//></header>
      <div class="dialog-body">${children}</div>
      ${footer && html`<footer>${footer}</footer>`}
    </div>
  </dialog>`;
}

/**
 * @typedef {object} Question
 * @property {string} title
 * @property {Children} [text] what will happen
 * @property {string} [action] the word on the button
 * @property {boolean} [danger]
 * @property {string} [type] what has to be typed first, for what cannot be taken back
 */

const asked = signal(/** @type {(Question & { answer: (yes: boolean) => void }) | null} */ (null));

/** Asks before something happens: `if (await confirm({ title: "Delete it?" })) ...`. @param {Question} question @returns {Promise<boolean>} */
export function confirm(question) {
  asked.value?.answer(false);
  return new Promise((resolve) => {
    asked.value = {
      ...question,
      answer: (yes) => {
        asked.value = null;
        resolve(yes);
      },
    };
  });
}

/** Where questions appear; the shell has it. */
export function ConfirmDialog() {
  const question = asked.value;
  const typed = useRef(signal("")).current;
  useEffect(() => void (typed.value = ""), [question]);
  if (!question) return null;
  const { title, text, action = "Continue", danger = false, type, answer } = question;
  const may = !type || typed.value === type;
  return html`<${Dialog} title=${title} onClose=${() => answer(false)} footer=${html`
      <${Button} autofocus=${!type} onClick=${() => answer(false)}>Cancel<//>
      <${Button} kind=${danger ? "danger" : "primary"} disabled=${!may} onClick=${() => answer(true)}>${action}<//>`}>
    <div>${text}</div>
    ${type && html`<${Field} name="typed" label=${`Type ${type} to continue`} value=${typed.value} onInput=${(/** @type {string} */ value) => (typed.value = value)} />`}
  <//>`;
}
