/**
 * Supervision: the live actor tree, as it is and as it came to be.
 * @module
 */
import { api, segment } from "../lib/api.js";
import { number, uptime } from "../lib/format.js";
import { RefreshIcon } from "../lib/icons.js";
import { useCommands } from "../lib/commands.js";
import { html } from "../lib/preact.js";
import { param, setQuery } from "../lib/router.js";
import { useResource } from "../lib/store.js";
import { Badge, Button, Empty, Loaded, Page, Panel, StatusDot, Table, Time, confirm, toast } from "../lib/ui.js";

/** How an actor's life looks. */
const LIVES = /** @type {Record<string, ["good" | "warn" | "bad" | "neutral" | "info", string, string]>} */ ({
  running: ["good", "Running", "Takes messages."],
  starting: ["info", "Starting", "Its start is under way."],
  restarting: ["warn", "Restarting", "It died; the next incarnation comes at once or after a short pause."],
  melted: ["bad", "Melted", "It died too often. It is tried again with a growing pause; callers are refused meanwhile."],
  stopped: ["neutral", "Stopped", "Never started, or stopped on purpose."],
});

/** @typedef {{ actor: any, depth: number }} Row */

export default function Supervision() {
  const tree = useResource("/api/supervision", { events: "actor:*", every: 2_000 });
  const events = useResource("/api/supervision/events", { events: "actor:*" });
  const actors = tree.data.value ? flat(tree.data.value) : [];
  useCommands(
    actors.slice(1).map(({ actor }) => ({ id: `restart-${actor.name}`, title: `Restart ${actor.name}`, group: "Supervision", keywords: "actor", run: () => void restart(actor.name).catch(toast.failed) })),
    [actors.length],
  );
  const lead = "Every part of the gateway is an actor with a supervisor. One that fails is restarted by itself, and takes no other with it.";
  return html`<${Page} title="Supervision" lead=${lead}>
    <${Loaded} of=${tree}>${() => html`<${Summary} actors=${actors} /><${Panel} title="Actor tree" flush><${Tree} actors=${actors} /><//>`}<//>
    <${Panel} title="What happened" flush><${Loaded} of=${events}>${(/** @type {any} */ { events: all }) => html`<${Happened} events=${all} />`}<//><//>
  <//>`;
}

/** @param {any} actor @param {number} [depth] @returns {Row[]} */
function flat(actor, depth = 0) {
  return [{ actor, depth }, ...(actor.children ?? []).flatMap((/** @type {any} */ child) => flat(child, depth + 1))];
}

/** @param {{ actors: Row[] }} props */
function Summary({ actors }) {
  const restarts = actors.reduce((sum, { actor }) => sum + actor.restarts, 0);
  const waiting = actors.reduce((sum, { actor }) => sum + actor.mailbox_depth, 0);
  const ill = actors.filter(({ actor }) => ["restarting", "melted"].includes(actor.state));
  return html`<div class="cards">
    <div class="card"><div class="card-title">Actors</div><div class="card-value">${number(actors.length)}</div><div class="card-note">${ill.length ? `${ill.map(({ actor }) => actor.name).join(", ")} not well` : "all well"}</div></div>
    <div class="card"><div class="card-title">Restarts</div><div class="card-value" data-test="restarts">${number(restarts)}</div><div class="card-note">since the process began</div></div>
    <div class="card"><div class="card-title">Waiting messages</div><div class="card-value">${number(waiting)}</div><div class="card-note">in all mailboxes</div></div>
    <div class="card"><div class="card-title">Up</div><div class="card-value">${uptime(actors[0]?.actor.uptime)}</div><div class="card-note">the root</div></div>
  </div>`;
}

/** @param {{ actors: Row[] }} props */
function Tree({ actors }) {
  return html`<${Table} caption="Actor tree" rows=${actors} rowKey=${(/** @type {Row} */ { actor }) => actor.name} sort=${param("sort")} onSort=${(/** @type {string} */ sort) => setQuery({ sort })}
    columns=${[
      { key: "name", title: "Actor", cell: (/** @type {Row} */ { actor, depth }) => html`<span class=${param("sort") ? "" : `actor-indent-${depth}`}><code data-actor=${actor.name}>${actor.name}</code></span>` },
      { key: "state", title: "State", cell: (/** @type {Row} */ { actor }) => html`<${Life} actor=${actor} />`, sort: (/** @type {Row} */ { actor }) => actor.state },
      { key: "restarts", title: "Restarts", align: "right", optional: true, sort: (/** @type {Row} */ { actor }) => actor.restarts, cell: (/** @type {Row} */ { actor }) => html`<span key=${actor.restarts} class=${actor.restarts ? "flash" : ""}>${number(actor.restarts)}</span>` },
      { key: "mailbox", title: "Mailbox", optional: true, sort: (/** @type {Row} */ { actor }) => actor.mailbox_depth, cell: (/** @type {Row} */ { actor }) => html`<${Mailbox} actor=${actor} />` },
      { key: "messages", title: "Messages", align: "right", optional: true, sort: (/** @type {Row} */ { actor }) => actor.messages_handled, cell: (/** @type {Row} */ { actor }) => html`<span title=${actor.busiest_message ? `most often: ${actor.busiest_message}` : undefined}>${number(actor.messages_handled)}</span>` },
      { key: "uptime", title: "Up", align: "right", optional: true, sort: (/** @type {Row} */ { actor }) => actor.uptime, cell: (/** @type {Row} */ { actor }) => html`<span class="nowrap">${actor.state === "running" ? uptime(actor.uptime) : "–"}</span>` },
      { key: "failure", title: "Last failure", wide: true, optional: true, cell: (/** @type {Row} */ { actor }) => html`<${Failure} failure=${actor.last_failure} />` },
      { key: "do", title: "Actions", hideTitle: true, align: "right", cell: (/** @type {Row} */ { actor, depth }) => depth > 0 && html`<${Button} small kind="ghost" label=${`Restart ${actor.name}`} onClick=${() => restart(actor.name)}><${RefreshIcon} size="15" /><//>` },
    ]} />`;
}

/** @param {{ actor: any }} props */
function Life({ actor }) {
  const [tone, word, why] = LIVES[actor.state] ?? ["neutral", actor.state, ""];
  const retry = actor.retry_in_ms ? `; again in ${uptime(actor.retry_in_ms / 1_000)}` : "";
  return html`<span title=${why} data-test=${`state-${actor.name}`}><${StatusDot} tone=${tone}>${word}${retry}<//></span>`;
}

/** @param {{ actor: any }} props */
function Mailbox({ actor }) {
  const part = Math.min(100, (actor.mailbox_depth / Math.max(1, actor.mailbox_capacity)) * 100);
  const words = `${number(actor.mailbox_depth)} of ${number(actor.mailbox_capacity)}`;
  return html`<div class="row nowrap"><div class="meter" role="img" aria-label=${words}><span style=${{ width: `${part}%` }}></span></div><span class="muted small" aria-hidden="true">${words}</span></div>`;
}

/** @param {{ failure: { at: number, reason: string } | null }} props */
function Failure({ failure }) {
  if (!failure) return html`<span class="muted">–</span>`;
  return html`<span title=${failure.reason}><span class="muted"><${Time} at=${failure.at} />:</span> <span class="actor-failed">${failure.reason}</span></span>`;
}

/** @param {{ events: any[] }} props */
function Happened({ events }) {
  const rows = events.filter(({ kind }) => kind.startsWith("actor:")).reverse().slice(0, 100);
  return html`<${Table} caption="What happened to actors, newest first" rows=${rows} rowKey=${(/** @type {any} */ { id }) => id}
    empty=${html`<${Empty} title="Nothing yet">Starts, failures and restarts are shown here as they happen.<//>`}
    columns=${[
      { key: "at", title: "When", cell: (/** @type {any} */ { at }) => html`<span class="nowrap"><${Time} at=${at} /></span>` },
      { key: "actor", title: "Actor", cell: (/** @type {any} */ { detail }) => html`<code>${detail.actor}</code>` },
      { key: "action", title: "Event", cell: (/** @type {any} */ { action, detail }) => html`<${Badge} tone=${{ started: "good", stopped: "neutral" }[/** @type {string} */ (action)] ?? "bad"}>${action}<//>${detail.reason && html`<div class="phone-only small actor-failed">${detail.reason}</div>`}` },
      { key: "incarnation", title: "Life", align: "right", optional: true, cell: (/** @type {any} */ { detail }) => html`<span title="How often it was started, by then">${number(detail.incarnation)}</span>` },
      { key: "reason", title: "Reason", wide: true, optional: true, cell: (/** @type {any} */ { detail }) => html`<span title=${detail.reason ?? undefined}>${detail.reason ?? "–"}</span>` },
    ]} />`;
}

/** @param {string} name */
async function restart(name) {
  const text = html`<p><code>${name}</code> finishes the message it is at, ends, and starts anew. ${consequence(name)}</p>`;
  if (!(await confirm({ title: `Restart ${name}?`, text, action: "Restart" }))) return;
  await api.post(`/api/supervision/${segment(name)}/restart`);
  toast(`${name} was restarted`);
}

/** @param {string} name */
function consequence(name) {
  if (name === "listener-management") return "This page loses its connection for a moment.";
  if (name.startsWith("listener-")) return "Its port takes no requests for a moment.";
  if (name === "database") return "What is asked of it meanwhile waits, or is told to come again.";
  return "What is asked of it meanwhile waits.";
}
