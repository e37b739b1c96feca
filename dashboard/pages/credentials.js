/**
 * Credentials: the user's own logins at chat.qwen.ai. They go in here and never come out. `?login` opens the form, `?login=NAME` to
 * renew that one.
 * @module
 */
import { api } from "../lib/api.js";
import { useCommands } from "../lib/commands.js";
import { ago, date, plural, uptime } from "../lib/format.js";
import { CredentialsIcon, PlusIcon } from "../lib/icons.js";
import { html } from "../lib/preact.js";
import { navigate, param, place, setQuery } from "../lib/router.js";
import { providers, useResource, useShared } from "../lib/store.js";
import { Badge, Button, Empty, KeyValue, Loaded, Page, Panel, StatusDot, Time, confirm, toast } from "../lib/ui.js";
import { LoginForm } from "./credentials/login.js";
import { switchProvider } from "./providers/actions.js";

const SITE = "https://chat.qwen.ai";

/** What a state means, and what it asks the user to do. @type {Record<string, { tone: "good" | "warn" | "bad", word: string, advice: string, isBad: boolean }>} */
const STATES = {
  valid: { tone: "good", word: "Valid", advice: "", isBad: false },
  expiring: { tone: "warn", word: "Ends within a day", advice: "Log in again before it ends: the old one serves until then.", isBad: false },
  expired: { tone: "bad", word: "Expired", advice: "Its time is over, and no request goes with it. Log in at chat.qwen.ai again and hand the new login over under the same name.", isBad: true },
  rejected: { tone: "bad", word: "Refused by the site", advice: "The site does not take it any more, often because you logged out in the browser. Log in there again and hand the new login over under the same name.", isBad: true },
  challenged: { tone: "bad", word: "The site wants to see a person", advice: "Open chat.qwen.ai in the browser this login comes from, pass its check, then press Verify. If that does not help, hand the login over again.", isBad: true },
};

export default function Credentials() {
  const logins = useResource("/api/qwen/credentials", { events: ["credentials:updated"], every: 30_000 });
  useShared(providers);
  const add = () => setQuery({ login: "1" });
  useCommands([{ id: "login", title: "Log in to Qwen", group: "Credentials", keywords: "chat.qwen.ai cookies token curl", run: () => navigate("/credentials?login=1") }]);
  const actions = html`<${Button} kind="primary" onClick=${add}><${PlusIcon} size="16" /> Add a login<//>`;
  return html`<${Page} title="Credentials" lead="Your own logins at chat.qwen.ai. They are kept sealed on this machine, sent to that site only, and shown to nobody." actions=${actions}>
    <${Loaded} of=${logins}>${(/** @type {any} */ { accounts }) => html`<${Provider} has=${accounts.length > 0} /><${Accounts} accounts=${accounts} add=${add} />`}<//>
    ${place.value.query.has("login") && logins.data.value && html`<${LoginForm} label=${param("login") === "1" ? null : param("login")} taken=${logins.data.value.accounts.map((/** @type {any} */ { label }) => label)} onClose=${() => setQuery({ login: null })} />`}
  <//>`;
}

/** A login alone serves the Qwen proxy's port; the router needs its provider, too. @param {{ has: boolean }} props */
function Provider({ has }) {
  const all = (providers.data.value?.providers ?? []).filter((/** @type {any} */ { type }) => type === "qwen-direct");
  if (!has || !all.length || all.some((/** @type {any} */ { enabled }) => enabled)) return null;
  const [first] = all;
  return html`<div class="login-advice row-between"><p>The provider ${first.name} is disabled: the router does not use these logins yet.</p><${Button} small kind="primary" onClick=${() => switchProvider(first, true)}>Enable it<//></div>`;
}

/** @param {{ accounts: any[], add: () => void }} props */
function Accounts({ accounts, add }) {
  if (!accounts.length) {
    return html`<${Panel}><${Empty} title="No login yet" icon=${CredentialsIcon} actions=${html`<${Button} kind="primary" onClick=${add}>Add a login<//>`}>
      With your own login, the models of chat.qwen.ai answer through the gateway. Log in there in your browser first; the form says what to copy. Or in a terminal: <code>qwarden login --help</code>.<//><//>`;
  }
  return html`<div class="logins">${accounts.map((account) => html`<${Account} key=${account.id} account=${account} />`)}
    ${accounts.length > 1 && html`<div class="row row-end"><${Button} kind="danger" onClick=${() => removeAll(accounts)}>Remove all<//></div>`}</div>`;
}

/** @param {{ account: any }} props */
function Account({ account }) {
  const { label, state, source } = account;
  const { tone, word, advice, isBad } = STATES[state] ?? { tone: "warn", word: state, advice: "", isBad: false };
  const rests = account.limited_until ? account.limited_until * 1_000 : null;
  const isOurs = source === "database";
  const actions = html`<${Button} small onClick=${() => verify(label)}>Verify<//>
    ${isOurs && html`<${Button} small kind=${isBad ? "primary" : "plain"} onClick=${() => setQuery({ login: label })}>Renew<//><${Button} small kind="danger" aria-label=${`Remove ${label}`} onClick=${() => remove(label)}>Remove<//>`}`;
  const seconds = (/** @type {number | null} */ at) => (at === null ? null : at * 1_000);
  return html`<${Panel} title=${html`<span class="row"><span class="breakable">${label}</span><span><${StatusDot} tone=${tone}>${word}<//></span>${rests && html`<${Badge} tone="warn">at its limit<//>`}</span>`} actions=${actions}>
    <div class="stack">
      ${advice && html`<p class=${`login-advice login-advice-${isBad ? "bad" : "warn"}`} role=${isBad ? "alert" : undefined}>${advice}${isBad && html` <a href=${SITE} target="_blank" rel="noreferrer">Open the site</a>`}</p>`}
      ${rests && html`<p class="login-advice login-advice-warn">The site said enough for now. It is left alone until ${date(rests)} (${ago(rests)}); other logins serve meanwhile.</p>`}
      ${!isOurs && html`<p class="login-advice">It comes from the environment the gateway was started with, and is used as long as none is stored.</p>`}
      <${KeyValue} items=${[
        ["Ends", account.expires_at === null ? "it does not say" : html`<span title=${date(seconds(account.expires_at))}>${account.expires_in > 0 ? `in ${uptime(account.expires_in)}` : ago(seconds(account.expires_at))}</span>`],
        ["Last taken by the site", account.last_verified_at === null ? "not yet" : html`<${Time} at=${seconds(account.last_verified_at)} />`],
        ["Handed over", html`<${Time} at=${seconds(account.createdAt)} />`],
        ["Token", html`<code class="breakable">${account.token_preview}</code>`],
        ["Cookies", account.cookie_names.length ? html`<span title=${account.cookie_names.join(", ")}>${plural(account.cookie_names.length, "cookie")}: <code class="breakable">${account.cookie_names.slice(0, 6).join(", ")}${account.cookie_names.length > 6 ? ", …" : ""}</code></span>` : null],
      ]} />
    </div>
  <//>`;
}

/** @param {string} label */
async function verify(label) {
  const { verified } = await api.post("/api/qwen/credentials/verify", undefined, { query: { label } });
  if (verified) toast(`chat.qwen.ai takes the login ${label}`);
  else toast(`chat.qwen.ai did not take the login ${label}, or could not be asked`, { tone: "bad", hint: "Try again in a moment; if it stays so, log in there again and renew it here." });
}

/** @param {string} label */
async function remove(label) {
  if (!(await confirm({ title: `Remove the login ${label}?`, text: "It is forgotten here at once and for good. In your browser you stay logged in.", action: "Remove", danger: true }))) return;
  await api.delete("/api/qwen/credentials", { query: { label } });
  toast(`The login ${label} is removed`);
}

/** @param {any[]} accounts */
async function removeAll(accounts) {
  if (!(await confirm({ title: `Remove ${plural(accounts.length, "login")}?`, text: "All are forgotten here at once and for good, and the conversations with the site end.", action: "Remove all", danger: true }))) return;
  await api.delete("/api/qwen/credentials");
  toast("All logins are removed");
}
