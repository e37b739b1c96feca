/**
 * One exchange: what was said, which attempts it took, its raw documents, its stream again, and the same question to another model.
 * @module
 */
import { api, segment } from "../../lib/api.js";
import { on, onReconnect } from "../../lib/events.js";
import { cost, date, duration, number, plural, words } from "../../lib/format.js";
import { html, useEffect } from "../../lib/preact.js";
import { navigate, param, setQuery } from "../../lib/router.js";
import { useResource } from "../../lib/store.js";
import { Badge, Button, ButtonLink, CopyButton, Empty, ErrorState, KeyValue, Loading, Panel, StatusDot, Tabs, Time, confirm, toast } from "../../lib/ui.js";
import { Compare } from "./compare.js";
import { Conversation } from "./dialogue.js";
import { STATES } from "./list.js";
import { Playback } from "./playback.js";
import { Raw } from "./raw.js";
import { Waterfall } from "./waterfall.js";

const RUNNING = 2_000;

/** @param {{ id: string }} props its UUID or number */
export function Detail({ id }) {
  const found = useResource(`/api/requests/${segment(id)}`);
  const exchange = found.data.value;
  const running = exchange?.status === "in_progress";
  useEffect(() => {
    let soon = 0;
    const again = () => {
      clearTimeout(soon);
      // The event comes a little before the row.
      soon = setTimeout(found.refetch, 200);
    };
    const heard = on(["request:*", "requests:updated"], ({ data }) => {
      if (data.requestId === id || data.requestId === found.data.value?.request_id) again();
    });
    const reconnected = onReconnect(again);
    return () => {
      clearTimeout(soon);
      heard();
      reconnected();
    };
  }, [found, id]);
  useEffect(() => {
    if (!running) return;
    const timer = setInterval(found.refetch, RUNNING);
    return () => clearInterval(timer);
  }, [found, running]);
  const error = found.error.value;
  if (error?.status === 404) {
    return html`<${Panel}><${Empty} title=${exchange ? "This request was deleted" : "There is no such request"} actions=${html`<${ButtonLink} href="/requests">All requests<//>`}>
      ${exchange ? "Somebody else deleted it just now." : "It may have been deleted, or outlived its retention."}<//><//>`;
  }
  if (!exchange) return html`<${Panel}>${error ? html`<${ErrorState} error=${error} retry=${found.refetch} />` : html`<${Loading} what="Loading the request" />`}<//>`;
  return html`<${Shown} exchange=${exchange} refetch=${found.refetch} />`;
}

/** @param {{ exchange: any, refetch: () => Promise<void> }} props */
function Shown({ exchange, refetch }) {
  const tabs = [
    { key: "conversation", title: "Conversation" },
    { key: "timing", title: "Timing" },
    ...(exchange.stream ? [{ key: "stream", title: "Stream" }] : []),
    { key: "compare", title: "Replay" },
    { key: "raw", title: "Raw" },
  ];
  const tab = tabs.find(({ key }) => key === param("tab"))?.key ?? "conversation";
  const path = `/api/requests/${segment(exchange.request_id)}`;
  const curl = async () => (await api.get(`${path}/curl`)).command;
  const remove = async () => {
    const yes = await confirm({ title: "Delete this request?", text: "What was asked, the answer and its recording are gone for good. The usage it was counted in stays.", action: "Delete", danger: true });
    if (!yes) return;
    await api.delete(path);
    toast("The request is deleted");
    const query = new URLSearchParams(location.search);
    for (const name of ["tab", "with", "document"]) query.delete(name);
    navigate(`/requests${query.size ? `?${query}` : ""}`, { replace: true });
  };
  return html`<div class="stack">
    <${Head} exchange=${exchange} isTold=${tab === "conversation"} actions=${html`<${CopyButton} text=${curl} label="Copy as curl">Copy as curl<//>
      ${tab !== "compare" && html`<${Button} small onClick=${() => setQuery({ tab: "compare" })}>Replay<//>`}
      <${Button} small kind="danger" onClick=${remove}>Delete<//>`} />
    <${Panel}><${Tabs} label="Parts of the request" tabs=${tabs} current=${tab} onChange=${(/** @type {string} */ key) => setQuery({ tab: key === "conversation" ? null : key })}>
      ${tab === "conversation" && html`<${Conversation} exchange=${exchange} />`}
      ${tab === "timing" && html`<${Waterfall} exchange=${exchange} />`}
      ${tab === "stream" && html`<${Playback} exchange=${exchange} />`}
      ${tab === "compare" && html`<${Compare} exchange=${exchange} refetch=${refetch} />`}
      ${tab === "raw" && html`<${Raw} exchange=${exchange} />`}
    <//><//>
  </div>`;
}

/** @param {{ exchange: any, isTold: boolean, actions: import("../../lib/preact.js").Children }} props `isTold`: why it failed stands below */
function Head({ exchange, isTold, actions }) {
  const [tone, word] = STATES[exchange.status] ?? ["neutral", words(exchange.status)];
  const answer = exchange.response;
  const tags = Object.entries(exchange.tags ?? {});
  const upstream = answer?.upstream_model && exchange.model !== answer.upstream_model && exchange.model !== `${answer.provider}/${answer.upstream_model}` ? ` as ${answer.upstream_model}` : "";
  /** @type {[any, any][]} */
  const left = [
    ["Model", html`<strong>${exchange.model || "–"}</strong>${upstream}`],
    ["Provider", exchange.provider ? html`<a href=${`/providers/${encodeURIComponent(exchange.provider)}`}>${exchange.provider}</a>` : "–"],
    ["When", html`${date(exchange.timestamp)} <span class="muted">(<${Time} at=${exchange.timestamp} />)</span>`],
    ["Asked", html`<code>${exchange.method} ${exchange.path}</code>${exchange.user_agent ? html` <span class="muted">by ${exchange.user_agent}</span>` : ""}`],
    ...(exchange.session_id ? [/** @type {[any, any]} */ (["Session", html`<a class="mono" href=${`/requests?session_id=${encodeURIComponent(exchange.session_id)}`}>${exchange.session_id}</a>`])] : []),
    ...(exchange.key_id ? [/** @type {[any, any]} */ (["Key", html`<a href=${`/requests?key=${encodeURIComponent(exchange.key_id)}`}><${KeyName} id=${exchange.key_id} /></a>`])] : []),
    ...(exchange.replay_of ? [/** @type {[any, any]} */ (["Replay of", html`<a class="mono" href=${`/requests/${encodeURIComponent(exchange.replay_of)}`}>${exchange.replay_of}</a>`])] : []),
    ...(tags.length ? [/** @type {[any, any]} */ (["Tags", html`<span class="row">${tags.map(([name, value]) => html`<a key=${name} href=${`/requests?tag=${encodeURIComponent(`${name}:${value}`)}`}>${name}=${value}</a>`)}</span>`])] : []),
  ];
  /** @type {[any, any][]} */
  const right = [
    ["Status", html`<span class="row"><${StatusDot} tone=${tone} pulse=${exchange.status === "in_progress"}>${word}<//>${answer && html`<${Badge} tone=${answer.http_status < 400 ? "neutral" : "bad"}>HTTP ${answer.http_status}<//>`}${answer?.from_cache && html`<${Badge} tone="info">From the cache<//>`}</span>`],
    ["Took", html`${duration(answer?.duration_ms)}${answer?.ttft_ms != null ? html`<span class="muted">, first token after ${duration(answer.ttft_ms)}</span>` : ""}`],
    ["Attempts", plural(exchange.attempts.length, "attempt")],
    ...(answer?.total_tokens == null ? [] : [/** @type {[any, any]} */ (["Tokens", tokens(answer)])]),
    ...(answer?.cost_microusd == null ? [] : [/** @type {[any, any]} */ (["Cost", cost(answer.cost_microusd)])]),
    ...(answer?.finish_reason ? [/** @type {[any, any]} */ (["Finished", words(answer.finish_reason)])] : []),
    ["Id", html`<span class="row nowrap"><span class="mono truncated">${exchange.request_id}</span><${CopyButton} text=${exchange.request_id} label="Copy the id" /></span>`],
  ];
  return html`<${Panel} title=${html`<${StatusDot} tone=${tone}>${exchange.model || "Request"}<//>`} actions=${actions}>
    <div class="grid request-facts"><${KeyValue} items=${left} /><${KeyValue} items=${right} /></div>
    ${answer?.error && !isTold && html`<p class="request-failure" role="note"><strong>${answer.error_code ?? "error"}</strong> ${answer.error}</p>`}
  <//>`;
}

/** Ids say nothing; a key that was revoked has only that. @param {{ id: string }} props */
function KeyName({ id }) {
  const keys = useResource("/api/keys", { query: { limit: 1000 }, events: "keys:updated" });
  const name = keys.data.value?.keys.find((/** @type {any} */ key) => key.id === id)?.name;
  return name ?? html`<span class="mono">${id}</span>`;
}

/** @param {any} answer */
function tokens(answer) {
  const more = [answer.cached_tokens && `${number(answer.cached_tokens)} cached`, answer.reasoning_tokens && `${number(answer.reasoning_tokens)} thinking`].filter(Boolean).join(", ");
  return html`${number(answer.prompt_tokens)} in, ${number(answer.completion_tokens)} out${more && html` <span class="muted">(${more})</span>`}`;
}
