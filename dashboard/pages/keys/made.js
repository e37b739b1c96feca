/** @module the one time that a key is shown */
import { html, useState } from "../../lib/preact.js";
import { Button, Code, Dialog, confirm } from "../../lib/ui.js";
import { Snippets } from "./client.js";

/** @param {{ made: any, onClose: () => void }} props */
export function MadeKey({ made, onClose }) {
  const [isCopied, setCopied] = useState(false);
  const close = async () => {
    if (isCopied || (await confirm({ title: "Is it kept somewhere?", text: "The key is not shown again.", action: "Close" }))) onClose();
  };
  const copy = async () => {
    await navigator.clipboard.writeText(made.key);
    setCopied(true);
  };
  return html`<${Dialog} wide title=${`The key ${made.name}`} onClose=${close} footer=${html`<span class="made-told" role="status">${isCopied ? "Copied." : ""}</span><${Button} onClick=${close}>Close<//><${Button} kind="primary" autofocus onClick=${copy}>Copy the key<//>`}>
    <p>Copy it now: <strong>it is not shown again.</strong> Only a fingerprint is kept here.</p>
    <div data-test="made-key"><${Code} text=${made.key} label="Key" copy=${false} wrap /></div>
    <${Snippets} name=${made.key} models=${made.allowed_models} />
  <//>`;
}
