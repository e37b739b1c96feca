/**
 * Chat: a playground that asks as any client would, and shows what clients do not: thinking, timings, where it went.
 * @module
 */
import { useCommands } from "../lib/commands.js";
import { askable } from "../lib/model-picker.js";
import { html, useEffect, useRef, useState } from "../lib/preact.js";
import { param, setQuery } from "../lib/router.js";
import { status } from "../lib/store.js";
import { styles } from "../lib/styles.js";
import { Button, ButtonLink, CopyButton, Empty, Page, Panel } from "../lib/ui.js";
import { Composer } from "./chat/composer.js";
import { Setup } from "./chat/setup.js";
import { change, clear, curl, grown, setup, stop, turns, under } from "./chat/state.js";
import { Turns } from "./chat/turns.js";

await styles("chat");
const wide = matchMedia("(min-width: 1000px)");
/** Nearer to the end than this, px, the page follows the answer. */
const NEAR = 120;

export default function Chat() {
  const [draft, setDraft] = useState(/** @type {{ text: string, pictures: string[] } | null} */ (null));
  const [isWide, setWide] = useState(wide.matches);
  useEffect(() => {
    const changed = () => setWide(wide.matches);
    wide.addEventListener("change", changed);
    return () => wide.removeEventListener("change", changed);
  }, []);
  const wanted = param("model");
  useEffect(() => {
    if (!wanted) return;
    change({ model: wanted });
    setQuery({ model: null });
  }, [wanted]);
  useEffect(() => {
    const key = (/** @type {KeyboardEvent} */ event) => event.key === "Escape" && !event.defaultPrevented && !document.querySelector("dialog[open]") && stop();
    document.addEventListener("keydown", key);
    return () => document.removeEventListener("keydown", key);
  }, []);
  useCommands([{ id: "chat-new", title: "New conversation", group: "Chat", keywords: "clear", run: clear }]);
  const port = status.data.value?.providerRouter.port;
  const root = `http://${location.hostname}:${port || 3001}`;
  const none = turns.value.length === 0 && under.value === null;
  const actions = html`<${CopyButton} text=${() => curl(root)} label="Copy as curl" small=${false}>As curl<//>
    <${Button} disabled=${none} onClick=${clear}>New conversation<//>`;
  return html`<${Page} title="Chat" lead="Ask any model through the gateway, as a client would." actions=${actions}>
    <div class="chat">
      <section class="chat-main" aria-label="Chat">
        ${none ? html`<${Panel}><${Nothing} /><//>` : html`<${Turns} onEdit=${setDraft} /><${Follow} />`}
        <${Composer} draft=${draft} />
      </section>
      <details class="panel chat-side" open=${isWide}><summary>Model and parameters <span class="muted small chat-chosen">${setup.value.model || "default model"}</span></summary><div class="panel-body"><${Setup} /></div></details>
    </div>
  <//>`;
}

function Nothing() {
  const known = askable.data.value?.models ?? [];
  const alone = known.length > 0 && known.every((/** @type {any} */ model) => model.provider === "echo");
  if (alone) return html`<${Empty} title="Only the echo can answer yet" actions=${html`<${ButtonLink} href="/credentials">Log in to Qwen<//><${ButtonLink} href="/providers">Add a provider<//>`}>It says what you say. Connect a model for more.<//>`;
  return html`<${Empty} title="Ask something">The answer appears as it is made, with its thinking, its timings and its tokens.<//>`;
}

/** Keeps the end of the answer in view for who looks at the end. */
function Follow() {
  const near = useRef(true);
  useEffect(() => {
    const scrolled = () => {
      const page = document.documentElement;
      near.current = page.scrollHeight - page.scrollTop - page.clientHeight < NEAR;
    };
    window.addEventListener("scroll", scrolled, { passive: true });
    return () => window.removeEventListener("scroll", scrolled);
  }, []);
  useEffect(() => {
    if (near.current) window.scrollTo({ top: document.documentElement.scrollHeight });
  }, [grown.value, turns.value.length, under.value === null]);
  return null;
}
