import { api, login, needsLogin } from "../api.js";
import { connect } from "../events.js";
import { html, useEffect, useState } from "../preact.js";
import { auth, status } from "../store.js";
import { Field, Form, useForm } from "../ui.js";

/** Where the API wants the admin token. */
export function Login() {
  const [known, setKnown] = useState(/** @type {any} */ (null));
  useEffect(() => {
    document.title = "Log in · qwarden";
    api.get("/api/auth").then(setKnown, () => {});
  }, []);
  const form = useForm({ token: "" }, async ({ token }) => {
    await login(token.trim());
    needsLogin.value = false;
    connect();
    await Promise.all([status.refetch(), auth.refetch()]);
  });
  return html`<main class="login" id="main"><div class="panel"><div class="panel-body">
    <h1>Log in</h1>
    ${known?.configured === false
      ? html`<p>This gateway has no admin token, and serves other machines only with one. On its own machine, run:</p><pre class="inset"><code>qwarden token new</code></pre>`
      : html`<p class="muted">This gateway wants its admin token. It was shown when it was made; <code>qwarden token new</code> on the gateway's machine makes a new one.</p>`}
    <${Form} form=${form} action="Log in"><${Field} ...${form.field("token")} label="Admin token" type="password" required autocomplete="current-password" autofocus /><//>
  </div></div></main>`;
}
