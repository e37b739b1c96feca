/** @module handing a login over: as cURL text, as token and cookies, or as JSON. What is typed stays in the form until it is sent. */
import { ApiError, api } from "../../lib/api.js";
import { html, useState } from "../../lib/preact.js";
import { Dialog, Field, Form, Tabs, toast, useForm } from "../../lib/ui.js";

const WAYS = [
  { key: "curl", title: "cURL text" },
  { key: "parts", title: "Token and cookies" },
  { key: "json", title: "JSON" },
];

/** @param {{ label: string | null, taken: string[], onClose: () => void }} props `label`: the login to renew */
export function LoginForm({ label, taken, onClose }) {
  const [way, setWay] = useState("curl");
  const form = useForm({ label: label ?? (taken.length ? `login-${taken.length + 1}` : "default"), curl: "", token: "", cookies: "", json: "" }, async (values) => {
    const login = { curl: () => ({ curl: needed("curl", values.curl) }), parts: () => ({ token: values.token, cookies: values.cookies }), json: () => read(values.json) }[/** @type {"curl" | "parts" | "json"} */ (way)]();
    const { verified } = await api.post("/api/qwen/credentials", { ...login, label: values.label }).catch((error) => {
      throw at(way, error);
    });
    onClose();
    if (verified) toast(`The login ${values.label} is stored, and chat.qwen.ai takes it`);
    else toast(`The login ${values.label} is stored, but chat.qwen.ai did not confirm it`, { tone: "bad", hint: "If requests fail, copy it again from a browser that is logged in." });
  });
  const { values } = form;
  const isTaken = label === null && taken.includes(values.label.trim());
  return html`<${Dialog} wide title=${label === null ? "Add a login" : `Renew the login ${label}`} onClose=${onClose}><${Form} form=${form} action="Store and verify" onCancel=${onClose}>
    <${Tabs} label="How" tabs=${WAYS} current=${way} onChange=${(/** @type {string} */ key) => (setWay(key), form.setErrors({}))}><div class="stack">
      ${way === "curl" && html`<${How} last=${html`Right-click any request to the site, <em>Copy</em>, <em>Copy as cURL</em>, and paste it here.`} />
        <${Field} ...${form.field("curl")} label="Copied request" type="textarea" rows="7" required spellcheck="false" autocomplete="off" placeholder="curl 'https://chat.qwen.ai/api/v2/chats/' -H 'authorization: Bearer …' -b 'token=…'" help="The best way: what the browser sends along is kept, too. Nothing of it is run." />`}
      ${way === "parts" && html`<${How} last=${html`Pick any request to the site: the <code>cookie</code> header is among its request headers, and the cookie <code>token</code> in it is the token.`} />
        <${Field} ...${form.field("cookies")} label="Cookie header" type="textarea" rows="4" required spellcheck="false" autocomplete="off" placeholder="token=…; ssxmod_itna=…" />
        <${Field} ...${form.field("token")} label="Token" type="password" autocomplete="off" help="Empty: the cookie token is taken." />`}
      ${way === "json" && html`<p class="muted">Cookies as a browser extension exports them, a list of name and value; or what the API takes: <code>{"token": …, "cookies": …}</code>.</p>
        <${Field} ...${form.field("json")} label="JSON" type="textarea" rows="8" required spellcheck="false" autocomplete="off" placeholder=${'[{"name": "token", "value": "…"}]'} />`}
    </div><//>
    <${Field} ...${form.field("label")} label="Name" required readonly=${label !== null} help=${isTaken ? "There is a login of this name: this one takes its place." : "Several logins share the work; each has a name."} />
  <//><//>`;
}

/** @param {{ last: any }} props */
function How({ last }) {
  return html`<p class="muted">With Chromium, Chrome, Edge or Brave on this machine, <code>qwarden login --browser</code> does all of this for you. Else:</p>
    <ol class="how muted"><li>Log in at <a href="https://chat.qwen.ai" target="_blank" rel="noreferrer">chat.qwen.ai</a> in your browser, and open its developer tools (F12), tab <em>Network</em>.</li><li>Reload the page.</li><li>${last}</li></ol>`;
}

/** @param {string} field @param {string} text */
function needed(field, text) {
  if (!text.trim()) throw new ApiError(400, { error: { message: "There is nothing to send yet", errors: [`\`${field}\` is empty: paste it here`] } });
  return text;
}

/** @param {string} text */
function read(text) {
  let value;
  try {
    value = JSON.parse(needed("json", text));
  } catch (error) {
    if (error instanceof ApiError) throw error;
    throw new ApiError(400, { error: { message: "This is no JSON", errors: ["`json` is no JSON: copy all of it, from the first bracket to the last"] } });
  }
  if (Array.isArray(value)) return { cookies: value };
  if (typeof value === "object" && value !== null) return value;
  throw new ApiError(400, { error: { message: "This is no login", errors: ["`json` must be a list of cookies, or an object with token and cookies"] } });
}

/** What is missing in a pasted text is said at that text. @param {string} way @param {any} error */
function at(way, error) {
  if (!(error instanceof ApiError) || way === "parts") return error;
  const lacks = ["token", "cookies"].filter((part) => error.errors.some((one) => one.startsWith(`\`${part}\` is required`)));
  const said = lacks.length ? `holds no login: ${lacks.map((part) => (part === "token" ? "the token" : "the cookies")).join(" and ")} cannot be found in it. Copy all of it, from a browser that is logged in.` : error.message;
  error.errors = [`\`${way}\` ${said}`];
  return error;
}
