import { api, segment } from "../../lib/api.js";
import { duration, number, plural, words } from "../../lib/format.js";
import { ExternalIcon } from "../../lib/icons.js";
import { useList } from "../../lib/list.js";
import { html } from "../../lib/preact.js";
import { navigate } from "../../lib/router.js";
import { settings, useResource, useShared } from "../../lib/store.js";
import { Badge, Button, ButtonLink, CopyButton, Empty, KeyValue, Loaded, Page, Panel, Table, Time, confirm, toast } from "../../lib/ui.js";

const EVENTS = ["sessions:updated", "request:completed"];
const TONES = /** @type {Record<string, "good" | "bad" | "info" | "neutral">} */ ({ completed: "good", failed: "bad", in_progress: "info" });

/** One conversation. @param {{ id: string }} props */
export function Session({ id }) {
  const path = `/api/sessions/${segment(id)}`;
  const session = useResource(path, { events: EVENTS });
  const configured = useShared(settings).data.value?.settings ?? {};
  const error = session.error.value;
  const gone = error?.status === 404;
  const remove = async () => {
    const { request_count: count } = session.data.value;
    const { value: deletes } = await api.get("/api/settings/qwen.deleteChats");
    const also = deletes
      ? html`<p>Its chat at the site is deleted, too (setting <code>qwen.deleteChats</code>).</p>`
      : html`<p>Its chat at the site stays in your list of chats there; with the setting <code>qwen.deleteChats</code> it would go, too.</p>`;
    const text = html`<p>${plural(count, "request")} and ${count === 1 ? "its answer" : "their answers"} are deleted with it. A client that goes on begins a new chat.</p>${also}`;
    if (!(await confirm({ title: "Delete this session?", text, action: "Delete", danger: true }))) return;
    await api.delete(path);
    toast("The session is deleted");
    navigate("/sessions");
  };
  const actions = html`<${ButtonLink} href="/sessions">All sessions<//>${!gone && session.data.value && html`<${Button} kind="danger" onClick=${remove}>Delete<//>`}`;
  return html`<${Page} title="Session" lead=${html`<span class="mono break">${id}</span>`} actions=${actions}>
    ${gone
      ? html`<${Panel}><${Empty} title="There is no such session" actions=${html`<${ButtonLink} href="/sessions">All sessions<//>`}>It may have been deleted meanwhile.<//><//>`
      : html`<${Loaded} of=${session}>${(/** @type {any} */ one) => html`<${About} one=${one} site=${configured["qwen.baseUrl"]} />`}<//><${Requests} path=${path} />`}
  <//>`;
}

/** @param {{ one: any, site: string | undefined }} props */
function About({ one, site }) {
  const { usage, expired } = one;
  const address = chatAddress(site, one.chat_id);
  return html`<div class="grid">
    <${Panel} title="Where it goes on">
      <${KeyValue} items=${[
        ["State", html`<${Badge} tone=${expired ? "neutral" : "good"}>${expired ? "ended" : "can go on"}<//> <span class="muted">${expired ? "since" : "until"} <${Time} at=${one.expires_at} /></span>`],
        ["Chat", html`<span class="row"><code class="break">${one.chat_id}</code><${CopyButton} text=${one.chat_id} label="Copy the chat's id" />${address && html`<a class="row" href=${address} target="_blank" rel="noopener noreferrer">Open at the site <${ExternalIcon} size="14" /></a>`}</span>`],
        ["After the answer", one.parent_id && html`<code class="break">${one.parent_id}</code>`],
        ["Login", one.credential_id ? html`<a class="break" href="/credentials">${one.credential_id}</a>` : "a login that is gone"],
        ["Model", one.model],
      ]} />
    <//>
    <${Panel} title="What it used">
      <${KeyValue} items=${[
        ["Messages", number(one.message_count)],
        ["Requests kept", number(one.request_count)],
        ["Tokens", `${number(usage.total_tokens)} (${number(usage.prompt_tokens)} in, ${number(usage.completion_tokens)} out)`],
        ["Begun", html`<${Time} at=${one.created_at} />`],
        ["Last used", html`<${Time} at=${one.last_accessed} />`],
      ]} />
    <//>
  </div>
  <${Panel} title="First message"><p class="said">${one.first_user_message || "–"}</p><//>`;
}

/** Only what is a web address becomes a link. @param {string | undefined} site @param {string} chat */
function chatAddress(site, chat) {
  if (!site || !URL.canParse(site)) return null;
  const url = new URL(`/c/${encodeURIComponent(chat)}`, site);
  return ["http:", "https:"].includes(url.protocol) ? url.href : null;
}

/** @param {{ path: string }} props */
function Requests({ path }) {
  const list = useList(`${path}/requests`, "requests", { events: EVENTS, size: 100 });
  return html`<${Panel} title="Its requests" flush><${Loaded} of=${list}>${(/** @type {any} */ body) => html`
    <${Table} caption="Requests of this session, newest first" rows=${body.requests} rowKey=${(/** @type {any} */ row) => row.request_id} onRow=${(/** @type {any} */ row) => navigate(`/requests/${segment(row.request_id)}`)}
      empty=${html`<${Empty} title="None is kept">They were deleted, or have outlived the setting <code>retention.days</code>.<//>`}
      columns=${[
        { key: "timestamp", title: "When", cell: (/** @type {any} */ row) => html`<a class="nowrap" href=${`/requests/${segment(row.request_id)}`}><${Time} at=${row.timestamp} /></a>` },
        { key: "said", title: "Last message", wide: true, cell: (/** @type {any} */ row) => lastMessage(row.openai_request) },
        { key: "status", title: "Status", cell: (/** @type {any} */ row) => html`<${Badge} tone=${TONES[row.status] ?? "neutral"}>${words(row.status)}<//>` },
        { key: "tokens", title: "Tokens", align: "right", optional: true, cell: (/** @type {any} */ row) => number(row.response_summary?.total_tokens) },
        { key: "duration", title: "Duration", align: "right", optional: true, cell: (/** @type {any} */ row) => html`<span class="nowrap">${duration(row.response_summary?.duration_ms)}</span>` },
      ]} />
    ${body.next_cursor && html`<div class="list-more"><span class="muted">${number(body.requests.length)} of ${number(body.total)}</span><${Button} onClick=${list.more}>Show more<//></div>`}`}<//><//>`;
}

/** What was said last, in one line. @param {any} request */
function lastMessage(request) {
  const content = request?.messages?.at?.(-1)?.content;
  const text = Array.isArray(content) ? content.map((part) => part?.text ?? `[${part?.type ?? "part"}]`).join(" ") : content;
  return typeof text === "string" && text ? text.slice(0, 300) : html`<span class="muted">not kept</span>`;
}
