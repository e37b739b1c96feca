/**
 * The admin token: made here and shown once, replaced, set by hand, forgotten. Whoever changes it stays logged in.
 * @module
 */
import { api, login, logout } from "../../lib/api.js";
import { html, useState } from "../../lib/preact.js";
import { auth, useShared } from "../../lib/store.js";
import { Badge, Button, Code, Dialog, Field, Form, Loaded, confirm, toast, useForm } from "../../lib/ui.js";

const PATH = "/api/settings/auth.adminToken";

/** What a change means for others. */
const CONSEQUENCE = "Every other browser is logged out, and programs that use the old token are refused from then on.";

export function AdminToken() {
  const state = useShared(auth);
  const [made, setMade] = useState(/** @type {string | null} */ (null));
  const [open, setOpen] = useState(/** @type {"own" | "login" | null} */ (null));
  const now = state.data.value;
  const mayChange = !now?.configured || now.principal === "admin";

  /** Before somebody who is not logged in changes what there is. */
  const may = () => {
    if (mayChange) return true;
    setOpen("login");
    return false;
  };
  const make = async () => {
    if (!may()) return;
    if (now.configured && !(await confirm({ title: "Replace the admin token?", text: html`<p>${CONSEQUENCE}</p>`, action: "Replace", danger: true }))) return;
    const { token } = await api.post("/api/auth/token");
    setMade(token);
    // All logins ended, this one too.
    await login(token);
    await state.refetch();
  };
  const remove = async () => {
    if (!may()) return;
    const text = html`<p>Without a token this machine has full use of the gateway, other machines have none, and stored secrets cannot be unmasked by anybody.</p>`;
    if (!(await confirm({ title: "Forget the admin token?", text, action: "Forget it", danger: true }))) return;
    await api.delete("/api/auth/token");
    await state.refetch();
    toast("The admin token is forgotten");
  };
  const leave = async () => {
    await logout();
    await state.refetch();
    toast("This browser is logged out");
  };
  return html`<div class="setting" data-setting="auth.adminToken">
    <${Loaded} of=${state}>${(/** @type {any} */ { configured, principal }) => html`
      <div class="setting-words">
        <div class="setting-name"><strong>Admin token</strong>
          ${configured ? html`<${Badge} tone="good">set<//>` : html`<${Badge} tone="warn">not set<//>`}
          ${configured && html`<${Badge} tone=${principal === "admin" ? "info" : "neutral"}>${principal === "admin" ? "you are logged in" : "you are not logged in"}<//>`}
        </div>
        <p class="muted">${configured ? "Opens management for other machines, and unmasks secrets. Kept as a hash, never shown again." : "Without one only this machine may use management. Needed before the gateway serves other machines."}</p>
      </div>
      <div class="setting-value"><div class="actions">
        ${configured && principal !== "admin" && html`<${Button} small kind="primary" onClick=${() => setOpen("login")}>Log in<//>`}
        <${Button} small onClick=${make}>${configured ? "Replace it" : "Make a token"}<//>
        <${Button} small onClick=${() => may() && setOpen("own")}>Set your own<//>
        ${configured && principal === "admin" && html`<${Button} small onClick=${leave}>Log out<//>`}
        ${configured && html`<${Button} small kind="danger" onClick=${remove}>Forget it<//>`}
      </div></div>`}<//>
    ${made && html`<${Dialog} title="The new admin token" onClose=${() => setMade(null)} footer=${html`<${Button} kind="primary" onClick=${() => setMade(null)}>I have kept it<//>`}>
      <p>Keep it now: it is not shown again. This browser is logged in with it.</p><${Code} text=${made} label="Admin token" wrap />
    <//>`}
    ${open === "own" && html`<${OwnToken} onClose=${() => setOpen(null)} />`}
    ${open === "login" && html`<${LogIn} onClose=${() => setOpen(null)} />`}
  </div>`;
}

/** @param {{ onClose: () => void }} props */
function OwnToken({ onClose }) {
  const form = useForm({ "auth.adminToken": "" }, async (values) => {
    const token = values["auth.adminToken"];
    await api.put(PATH, { value: token });
    await login(token);
    await auth.refetch();
    toast("The admin token is set");
    onClose();
  });
  return html`<${Dialog} title="Set your own admin token" onClose=${onClose}>
    <p class="muted">${auth.data.value?.configured ? CONSEQUENCE : "From then on other machines may use management with it."}</p>
    <${Form} form=${form} action="Set it" onCancel=${onClose}><${Field} ...${form.field("auth.adminToken")} label="New token" type="password" required autofocus autocomplete="new-password" help="32 to 200 printable characters without blanks." /><//>
  <//>`;
}

/** @param {{ onClose: () => void }} props */
function LogIn({ onClose }) {
  const form = useForm({ token: "" }, async ({ token }) => {
    await login(token.trim());
    await auth.refetch();
    onClose();
  });
  return html`<${Dialog} title="Log in first" onClose=${onClose}>
    <p class="muted">Only who holds the admin token may change it.</p>
    <${Form} form=${form} action="Log in" onCancel=${onClose}><${Field} ...${form.field("token")} label="Current token" type="password" required autofocus autocomplete="current-password" /><//>
  <//>`;
}
