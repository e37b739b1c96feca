/**
 * Where questions are typed, with pictures from a file, the clipboard, or dropped.
 * @module
 */
import { CloseIcon, StopIcon } from "../../lib/icons.js";
import { html, useEffect, useId, useRef, useState } from "../../lib/preact.js";
import { Button, toast } from "../../lib/ui.js";
import { ask, setup, stop, under, waitingCalls, wrongWith } from "./state.js";

const KINDS = ["image/png", "image/jpeg", "image/gif", "image/webp"];
const LARGEST = 10 << 20;
const MOST = 8;

/** @param {{ draft: { text: string, pictures: string[] } | null }} props what is to be asked anew */
export function Composer({ draft }) {
  const [text, setText] = useState("");
  const [pictures, setPictures] = useState(/** @type {string[]} */ ([]));
  const id = useId();
  const input = useRef(/** @type {HTMLTextAreaElement | null} */ (null));
  const files = useRef(/** @type {HTMLInputElement | null} */ (null));
  useEffect(() => {
    if (!draft) return;
    setText(draft.text);
    setPictures(draft.pictures);
    input.current?.focus();
  }, [draft]);
  useEffect(() => {
    const box = input.current;
    if (!box) return;
    // As high as its text, within bounds.
    box.style.height = "auto";
    box.style.height = `${Math.min(box.scrollHeight + 2, 240)}px`;
  }, [text]);
  const busy = under.value !== null;
  const wrong = wrongWith("tools", setup.value.tools) ? "Tools" : wrongWith("more", setup.value.more) ? "Other parameters" : null;
  const waits = waitingCalls().length > 0;
  const may = !busy && !wrong && !waits && (text.trim() || pictures.length);
  const send = () => {
    if (!may) return;
    setText("");
    setPictures([]);
    void ask(text, pictures);
  };
  const attach = async (/** @type {Iterable<File>} */ given) => {
    for (const file of given) {
      if (!KINDS.includes(file.type)) toast(`${file.name || "This"} is not a PNG, JPEG, GIF or WebP picture`, { tone: "bad" });
      else if (file.size > LARGEST) toast(`${file.name || "The picture"} is larger than 10 MB`, { tone: "bad" });
      else {
        const url = await dataUrl(file);
        setPictures((now) => (now.length < MOST ? [...now, url] : now));
      }
    }
  };
  return html`<form class=${`composer${waits ? " composer-waits" : ""}`} onSubmit=${(/** @type {Event} */ event) => (event.preventDefault(), send())}
    onDragOver=${(/** @type {DragEvent} */ event) => event.preventDefault()}
    onDrop=${(/** @type {DragEvent} */ event) => {
      event.preventDefault();
      void attach(event.dataTransfer?.files ?? []);
    }}>
    ${pictures.length > 0 && html`<div class="row">${pictures.map(
      (url, at) => html`<span key=${at} class="attached"><img src=${url} alt=${`Picture ${at + 1}`} /><${Button} small kind="ghost" label=${`Remove picture ${at + 1}`} onClick=${() => setPictures(pictures.filter((_, index) => index !== at))}><${CloseIcon} size="14" /><//></span>`,
    )}</div>`}
    <label class="sr-only" for=${id}>Message</label>
    <textarea id=${id} ref=${input} rows="1" value=${text} placeholder=${waits ? "Give the results of the tools first" : "Ask something…"}
      onInput=${(/** @type {any} */ event) => setText(event.currentTarget.value)}
      onPaste=${(/** @type {ClipboardEvent} */ event) => {
        const pasted = [...(event.clipboardData?.files ?? [])].filter((file) => file.type.startsWith("image/"));
        if (!pasted.length) return;
        event.preventDefault();
        void attach(pasted);
      }}
      onKeyDown=${(/** @type {KeyboardEvent} */ event) => {
        if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
        event.preventDefault();
        send();
      }}></textarea>
    <div class="row-between">
      <div class="row"><${Button} small onClick=${() => files.current?.click()}>Attach a picture<//>
        <input ref=${files} type="file" class="sr-only" tabindex="-1" accept=${KINDS.join(",")} multiple aria-label="Pictures" onChange=${(/** @type {any} */ event) => {
          void attach([...event.currentTarget.files]);
          event.currentTarget.value = "";
        }} />
        ${wrong ? html`<span class="field-error" role="alert">${wrong}: this is not what it must be.</span>` : html`<span class="muted small wide-only">Enter sends, Shift+Enter begins a line</span>`}</div>
      ${busy ? html`<${Button} onClick=${stop}><${StopIcon} size="15" />Stop<//>` : html`<${Button} type="submit" kind="primary" disabled=${!may}>Send<//>`}
    </div>
  </form>`;
}

/** @param {File} file @returns {Promise<string>} */
function dataUrl(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(String(reader.result));
    reader.onerror = () => reject(reader.error ?? new Error("the file cannot be read"));
    reader.readAsDataURL(file);
  });
}
