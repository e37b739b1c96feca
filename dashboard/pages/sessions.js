/**
 * Sessions: conversations that Qwen keeps, and where each goes on.
 * @module
 */
import { api } from "../lib/api.js";
import { number, plural } from "../lib/format.js";
import { useList } from "../lib/list.js";
import { html } from "../lib/preact.js";
import { navigate, param, place, setQuery } from "../lib/router.js";
import { useResource } from "../lib/store.js";
import { Badge, Button, ButtonLink, Empty, Field, Loaded, Page, Panel, Table, Time, confirm, toast } from "../lib/ui.js";
import { Session } from "./sessions/detail.js";

const LEAD = "Conversations that the Qwen web chat keeps. A client that sends the same history again goes on in the same chat.";
const EVENTS = ["sessions:updated", "request:completed"];

export default function Sessions() {
  const id = place.value.segments[1];
  return id ? html`<${Session} key=${id} id=${id} />` : html`<${All} />`;
}

function All() {
  const state = param("state", "all");
  const sort = param("sort", "last_accessed");
  const chat = param("chat");
  const list = useList("/api/sessions", "sessions", { query: { state: state === "all" ? null : state, sort, chat_id: chat || null }, events: EVENTS });
  const ended = useResource("/api/sessions", { query: { state: "expired", limit: 1 }, events: EVENTS, every: 60_000 });
  const count = ended.data.value?.total ?? 0;
  const clean = async () => {
    const text = html`<p>Their requests and answers are deleted with them. What they were counted in (tokens, cost) stays. Their chats at the site stay, too.</p>`;
    if (!(await confirm({ title: `Delete ${plural(count, "ended session")}?`, text, action: "Delete", danger: true }))) return;
    const { deleted } = await api.delete("/api/sessions");
    toast(`${plural(deleted, "session")} deleted`);
    await Promise.all([list.refetch(), ended.refetch()]);
  };
  const actions = count > 0 && html`<${Button} onClick=${clean}>Delete ended (${number(count)})<//>`;
  return html`<${Page} title="Sessions" lead=${LEAD} actions=${actions}>
    <div class="toolbar" role="search" aria-label="Which sessions">
      <${Field} name="state" label="State" type="select" value=${state} options=${[{ value: "all", label: "All" }, { value: "active", label: "Can go on" }, { value: "expired", label: "Ended" }]} onInput=${(/** @type {string} */ value) => setQuery({ state: value === "all" ? null : value })} />
      <${Field} name="sort" label="Order" type="select" value=${sort} options=${[{ value: "last_accessed", label: "Last used first" }, { value: "created_at", label: "Newest first" }]} onInput=${(/** @type {string} */ value) => setQuery({ sort: value === "last_accessed" ? null : value })} />
      <div class="grow"><${Field} name="chat" label="Chat at the site" type="search" placeholder="Id of a chat" value=${chat} onInput=${(/** @type {string} */ value) => setQuery({ chat: value.trim() })} /></div>
    </div>
    <${Panel} flush><${Loaded} of=${list}>${(/** @type {any} */ body) => html`<${List} body=${body} isFiltered=${state !== "all" || Boolean(chat)} />
      ${body.next_cursor && html`<div class="list-more"><span class="muted">${number(body.sessions.length)} of ${number(body.total)}</span><${Button} onClick=${list.more}>Show more<//></div>`}`}<//><//>
  <//>`;
}

/** @param {{ body: any, isFiltered: boolean }} props */
function List({ body, isFiltered }) {
  const empty = isFiltered
    ? html`<${Empty} title="No session fits" actions=${html`<${Button} onClick=${() => setQuery({ state: null, chat: null })}>Show all<//>`} />`
    : html`<${Empty} title="No sessions yet" actions=${html`<${ButtonLink} href="/credentials">Log in to Qwen<//><${ButtonLink} href="/chat">Open the chat<//>`}>Only the Qwen web chat keeps conversations. Other providers get the whole history with every request, and are under <a href="/requests">Requests</a>.<//>`;
  return html`<${Table} caption="Sessions" rows=${body.sessions} rowKey=${(/** @type {any} */ { id }) => id} onRow=${(/** @type {any} */ { id }) => navigate(`/sessions/${encodeURIComponent(id)}`)} empty=${empty}
    columns=${[
      { key: "first_user_message", title: "First message", wide: true, cell: (/** @type {any} */ one) => html`<a href=${`/sessions/${encodeURIComponent(one.id)}`} title=${one.first_user_message}>${one.first_user_message.trim() || one.id}</a>` },
      { key: "state", title: "State", cell: (/** @type {any} */ { expired }) => html`<${Badge} tone=${expired ? "neutral" : "good"}>${expired ? "ended" : "can go on"}<//>` },
      { key: "model", title: "Model", optional: true, cell: (/** @type {any} */ { model }) => html`<span class="nowrap">${model ?? "–"}</span>` },
      { key: "message_count", title: "Messages", align: "right", optional: true, cell: (/** @type {any} */ one) => number(one.message_count) },
      { key: "created_at", title: "Begun", optional: true, cell: (/** @type {any} */ one) => html`<span class="nowrap"><${Time} at=${one.created_at} /></span>` },
      { key: "last_accessed", title: "Last used", cell: (/** @type {any} */ one) => html`<span class="nowrap"><${Time} at=${one.last_accessed} /></span>` },
    ]} />`;
}
