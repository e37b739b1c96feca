/**
 * Home: set-up in three steps, then how the gateway fares, live.
 * @module
 */
import { compact, cost, duration, number, percent, plural } from "../lib/format.js";
import { CheckIcon } from "../lib/icons.js";
import { html, useEffect, useState } from "../lib/preact.js";
import { snippets } from "../lib/snippets.js";
import { settings, status, steer, useResource, useShared } from "../lib/store.js";
import { listen, open, recent } from "../lib/traffic.js";
import { Badge, Button, ButtonLink, Chart, Code, Empty, Loaded, Page, Panel, Tabs } from "../lib/ui.js";

export default function Home() {
  useShared(settings);
  useEffect(listen, []);
  const actions = html`<${ButtonLink} href="/chat">Try it in the chat<//><${ButtonLink} href="/providers">Add a provider<//>`;
  return html`<${Page} title="Home" lead="One address for every model, and what goes through it." actions=${actions}>
    <${Loaded} of=${status}>${(/** @type {any} */ now) => html`<${Parts} now=${now} />`}<//>
  <//>`;
}

/** What comes next stands first: who has not set up yet wants the snippet, everybody else the numbers. @param {{ now: any }} props */
function Parts({ now }) {
  const { lastMinute } = recent();
  const answered = useResource("/api/activity/stats", { events: "request:completed" });
  const requests = answered.data.value?.stats.total_api_requests ?? 0;
  const isUsed = requests > 0 || lastMinute.requests > 0;
  return html`<${SetUp} now=${now} requests=${requests} isUsed=${isUsed} />
    ${answered.data.value !== null && !isUsed ? html`${now.providerRouter.port ? html`<${Client} key="client" now=${now} />` : null}<${Cards} key="cards" now=${now} /><${Live} key="live" />` : html`<${Cards} key="cards" now=${now} /><${Live} key="live" /><${Client} key="client" now=${now} />`}`;
}

/** Whether something besides the built-in echo can answer. @param {any} now */
function canAnswer(now) {
  return now.credentials.valid || now.providers.items.some((/** @type {any} */ one) => one.enabled && !one.type.startsWith("qwen"));
}

/** @param {{ now: any, requests: number, isUsed: boolean }} props */
function SetUp({ now, requests, isUsed }) {
  const steps = [
    {
      title: "Connect a model",
      done: canAnswer(now),
      text: canAnswer(now) ? `${plural(now.providers.enabled, "provider")} enabled.` : "Log in to Qwen, or add a provider: local servers are found by themselves.",
      action: html`<${ButtonLink} small kind=${canAnswer(now) ? "plain" : "primary"} href="/credentials">Log in to Qwen<//><${ButtonLink} small href="/providers">Add a provider<//>`,
    },
    {
      title: "Start the gateway",
      done: now.status === "running",
      text: now.status === "running" ? `Clients are served on port ${now.providerRouter.port}.` : "Clients get no answers yet.",
      action: html`<${Button} small kind="primary" onClick=${() => steer("start")}>Start<//>`,
    },
    {
      title: "Point your client at it",
      done: isUsed,
      text: requests > 0 ? `${plural(requests, "request")} so far.` : `${now.providerRouter.port ? "Copy" : "Once it runs, copy"} a snippet from below; this turns green with the first request.`,
      action: now.providerRouter.port ? html`<${ButtonLink} small href="#snippet">Show the snippet<//>` : null,
    },
  ];
  if (steps.every(({ done }) => done)) return null;
  const next = steps.findIndex(({ done }) => !done);
  return html`<${Panel} title="Set up in three steps"><ol class="steps">
    ${steps.map(
      ({ title, done, text, action }, at) => html`<li key=${title} class=${`step${done ? " step-done" : ""}`} aria-current=${at === next ? "step" : undefined}>
        <div class="step-head"><span class="step-number">${done ? html`<${CheckIcon} size="15" />` : at + 1}</span><span>${title}</span>${done && html`<span class="sr-only">done</span>`}</div>
        <p class="muted">${text}</p>${!done && html`<div class="actions">${action}</div>`}
      </li>`,
    )}
  </ol><//>`;
}

/** @param {{ now: any }} props */
function Cards({ now }) {
  const { lastMinute } = recent();
  const midnight = useState(() => new Date().setHours(0, 0, 0, 0))[0];
  const today = useResource("/api/responses/stats", { query: { start_date: midnight }, events: "request:completed", every: 60_000 });
  const sums = today.data.value;
  // What can be asked for, as the page Models lists it.
  const offered = useResource("/api/route/models", { events: ["models:updated", "providers:updated", "virtual_models:updated", "provider:*"], every: 60_000 });
  /** @type {{ id: string, providers: { provider: string }[] }[] | undefined} */
  const models = offered.data.value?.models;
  const serving = new Set(models?.flatMap(({ providers }) => providers.map(({ provider }) => provider)).filter((provider) => provider !== "echo"));
  const under = Math.max(open.value, (now.providerRouter.in_flight ?? 0) + (now.qwenProxy.in_flight ?? 0));
  return html`<div class="cards" data-test="cards">
    <${Card} title="Requests" value=${number(lastMinute.perSecond, 2)} unit="/s" note=${`${number(lastMinute.requests)} in the last minute, ${number(under)} under way`} href="/requests" />
    <${Card} title="Time to first token" value=${duration(lastMinute.ttft ?? sums?.p50_ttft_ms)} note=${lastMinute.ttft === null ? "median of today" : "median of the last minute"} href="/statistics" />
    <${Card} title="Tokens today" value=${compact(sums?.total_tokens)} note=${`${compact(sums?.total_prompt_tokens)} in, ${compact(sums?.total_completion_tokens)} out`} href="/statistics" />
    <${Card} title="Failed today" value=${number(sums?.failed)} note=${sums && sums.completed + sums.failed ? `${percent(sums.success_rate)} succeeded` : "nothing asked yet"} href="/requests?status=failed" />
    <${Card} title="Cost today" value=${cost(sums?.cost_microusd)} note="where prices are known" href="/statistics" />
    <${Card} title="Models" value=${number(models?.length)} note=${models && models.every(({ id }) => id === "echo") ? "only the built-in echo" : `to ask for, from ${plural(serving.size, "provider")}`} href="/models" />
  </div>`;
}

/** @param {{ title: string, value: string, unit?: string, note: string, href: string }} props */
function Card({ title, value, unit, note, href }) {
  return html`<a class="card" href=${href}><div class="card-title">${title}</div><div class="card-value">${value}${unit && html`<span class="muted card-note"> ${unit}</span>`}</div><div class="card-note">${note}</div></a>`;
}

function Live() {
  const { times, perSecond, ttft, tokens, errors } = recent();
  return html`<section class="grid" aria-label="The last ten minutes">
    <${Panel}><${Chart} title="Requests per second" times=${times} series=${[{ title: "Requests/s", values: perSecond }]} /><//>
    <${Panel}><${Chart} title="Time to first token" times=${times} series=${[{ title: "Median", values: ttft, colour: 2 }]} format=${duration} /><//>
    <${Panel}><${Chart} title="Tokens per second" times=${times} series=${[{ title: "Tokens/s", values: tokens, colour: 4 }]} format=${compact} /><//>
    <${Panel}><${Chart} title="Failures" times=${times} series=${[{ title: "Failures", values: errors, colour: 3, bars: true }]} format=${compact} /><//>
  </section>`;
}

/** @param {{ now: any }} props */
function Client({ now }) {
  const [tool, setTool] = useState("curl");
  const port = now.providerRouter.port;
  // A port that is taken when it is opened has no number before.
  if (!port) return html`<${Panel} title="Your client"><${Empty} title="The address is known once the gateway runs" actions=${html`<${Button} onClick=${() => steer("start")}>Start the gateway<//>`} /><//>`;
  const root = `http://${location.hostname}:${port}`;
  const model = settings.data.value?.settings.active_model ?? now.models.items[0]?.id ?? "echo";
  const wanted = settings.data.value?.settings["auth.requireKeys"];
  const needsKey = wanted === "always" || (wanted === "remote" && !["127.0.0.1", "localhost", "[::1]"].includes(location.hostname));
  const all = snippets(root, model, needsKey ? "qw-YOUR-KEY" : null);
  const current = all.find(({ key }) => key === tool) ?? all[0];
  return html`<section class="panel" id="snippet" tabindex="-1">
    <header class="panel-head"><h2>Your client</h2><div class="row"><span class="muted">Address</span> <code>${root}/v1</code> <${Badge} tone="info">${model}<//></div></header>
    <div class="panel-body"><${Tabs} label="Client" tabs=${all} current=${tool} onChange=${setTool}>
      <div class="stack"><${Code} text=${current.text} label=${`${current.title} snippet`} /><p class="muted">${current.then}${needsKey && html` Put a key of yours in place of qw-YOUR-KEY: <a href="/keys">make one</a>.`}</p></div>
    <//></div>
  </section>`;
}
