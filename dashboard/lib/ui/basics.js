import { CheckIcon, CopyIcon } from "../icons.js";
import { ago, date } from "../format.js";
import { html, useEffect, useState } from "../preact.js";
import { toast } from "./toasts.js";

/** @typedef {import("../preact.js").Children} Children */
/** @typedef {"neutral" | "good" | "warn" | "bad" | "info"} Tone */

/**
 * The frame of a page: its title (the only h1), what it is for, and its main actions.
 * @param {{ title: string, lead?: Children, actions?: Children, wide?: boolean, children?: Children }} props
 */
export function Page({ title, lead, actions, wide = false, children }) {
  useEffect(() => void (document.title = `${title} · qwarden`), [title]);
  return html`<div class=${`page${wide ? " page-wide" : ""}`}>
    <div class="page-head">
      <div class="page-title"><h1>${title}</h1>${lead && html`<p class="lead">${lead}</p>`}</div>
      ${actions && html`<div class="actions">${actions}</div>`}
    </div>
    ${children}
  </div>`;
}

/**
 * A box with a heading.
 * @param {{ title?: Children, actions?: Children, flush?: boolean, class?: string, children?: Children }} props `flush`: no padding, for tables
 */
export function Panel({ title, actions, flush = false, class: name = "", children }) {
  return html`<section class=${`panel ${name}`}>
    ${(title || actions) && html`<header class="panel-head">${title && html`<h2>${title}</h2>`}${actions && html`<div class="actions">${actions}</div>`}</header>`}
    <div class=${flush ? "panel-flush" : "panel-body"}>${children}</div>
  </section>`;
}

/**
 * While what `onClick` returns is not done the button is busy; a failure becomes a toast.
 * @param {{ kind?: "primary" | "plain" | "danger" | "ghost", small?: boolean, busy?: boolean, disabled?: boolean, label?: string,
 *   type?: "button" | "submit", onClick?: (event: Event) => unknown, children?: Children, [attribute: string]: unknown }} props
 *   `label`: for buttons that are an icon only
 */
export function Button({ kind = "plain", small = false, busy = false, disabled = false, label, type = "button", onClick, children, ...rest }) {
  const [working, setWorking] = useState(false);
  const click = async (/** @type {Event} */ event) => {
    if (busy || working || !onClick) return;
    const outcome = onClick(event);
    if (!(outcome instanceof Promise)) return;
    setWorking(true);
    try {
      await outcome;
    } catch (error) {
      toast.failed(error);
    } finally {
      setWorking(false);
    }
  };
  const waits = busy || working;
  return html`<button type=${type} class=${`button button-${kind}${small ? " button-small" : ""}`} disabled=${disabled}
    aria-busy=${waits ? "true" : undefined} aria-label=${label} title=${label} onClick=${click} ...${rest}>
    ${waits && html`<${Spinner} />`}${children}
  </button>`;
}

/** A link that looks like a button. @param {{ href: string, kind?: string, small?: boolean, children?: Children, [attribute: string]: unknown }} props */
export function ButtonLink({ href, kind = "plain", small = false, children, ...rest }) {
  return html`<a href=${href} class=${`button button-${kind}${small ? " button-small" : ""}`} ...${rest}>${children}</a>`;
}

export function Spinner() {
  return html`<span class="spinner" aria-hidden="true"></span>`;
}

/** @param {{ tone?: Tone, title?: string, children?: Children }} props */
export function Badge({ tone = "neutral", title, children }) {
  return html`<span class=${`badge badge-${tone}`} title=${title}>${children}</span>`;
}

/** A coloured dot; the word beside it says the same. @param {{ tone?: Tone, pulse?: boolean, children?: Children }} props */
export function StatusDot({ tone = "neutral", pulse = false, children }) {
  return html`<span class="status"><span class=${`dot dot-${tone}${pulse ? " dot-pulse" : ""}`} aria-hidden="true"></span>${children}</span>`;
}

/** @param {{ text: string | (() => string | Promise<string>), label?: string, small?: boolean, children?: Children }} props */
export function CopyButton({ text, label = "Copy", small = true, children }) {
  const [copied, setCopied] = useState(false);
  useEffect(() => {
    if (!copied) return;
    const timer = setTimeout(() => setCopied(false), 1_500);
    return () => clearTimeout(timer);
  }, [copied]);
  const copy = async () => {
    await navigator.clipboard.writeText(typeof text === "function" ? await text() : text);
    setCopied(true);
  };
  return html`<${Button} kind="ghost" small=${small} label=${copied && !children ? "Copied" : label} onClick=${copy}>
    ${copied ? html`<${CheckIcon} size="15" />` : html`<${CopyIcon} size="15" />`}${children}
    <span class="sr-only" role="status">${copied ? "Copied" : ""}</span>
  <//>`;
}

/** Text as it is, with a button that copies it. @param {{ text: string, label?: string, copy?: boolean, wrap?: boolean }} props */
export function Code({ text, label = "Code", copy = true, wrap = false }) {
  return html`<div class="code">
    <pre class=${wrap ? "wrap" : ""} tabindex="0" role="group" aria-label=${label}><code>${text}</code></pre>
    ${copy && html`<div class="code-copy"><${CopyButton} text=${text} label=${`Copy ${label.toLowerCase()}`} /></div>`}
  </div>`;
}

/** @param {{ items: [Children, Children][] }} props */
export function KeyValue({ items }) {
  return html`<dl class="key-value">${items.map(([key, value]) => html`<div><dt>${key}</dt><dd>${value ?? "–"}</dd></div>`)}</dl>`;
}

/** How long ago; the moment itself in its title. @param {{ at: number | string | null | undefined }} props */
export function Time({ at }) {
  const [, tick] = useState(0);
  useEffect(() => {
    const timer = setInterval(() => tick((count) => count + 1), 10_000);
    return () => clearInterval(timer);
  }, []);
  return html`<time title=${date(at)}>${ago(at)}</time>`;
}

/** One line, the whole in its title. @param {{ text: string | null | undefined, mono?: boolean }} props */
export function Truncated({ text, mono = false }) {
  return html`<span class=${`truncated${mono ? " mono" : ""}`} title=${text ?? undefined}>${text ?? "–"}</span>`;
}
