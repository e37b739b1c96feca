/**
 * The shell: header, navigation, what is wrong with the connection, and the page.
 * @module
 */
import { needsLogin } from "./lib/api.js";
import { connect } from "./lib/events.js";
import { Component, html, render, signal, useEffect, useState } from "./lib/preact.js";
import { register } from "./lib/commands.js";
import { navigate, place } from "./lib/router.js";
import { status, steer } from "./lib/store.js";
import { nextTheme } from "./lib/theme.js";
import { CommandPalette, ConfirmDialog, ErrorState, Loading, Page, Toasts, toast, Button, ButtonLink } from "./lib/ui.js";
import { Header } from "./lib/shell/header.js";
import { Login } from "./lib/shell/login.js";
import { Navigation, navigationOpen } from "./lib/shell/navigation.js";
import { Banner } from "./lib/shell/banner.js";
import { pageAt, pages } from "./pages/index.js";

function App() {
  useEffect(() => {
    connect();
    return status.watch();
  }, []);
  if (needsLogin.value) return html`<${Login} /><${Toasts} />`;
  return html`
    <a class="skip" href="#main" onClick=${(/** @type {Event} */ event) => (event.preventDefault(), document.getElementById("main")?.focus())}>Skip to the content</a>
    <${Header} />
    <div class=${`body${navigationOpen.value ? " nav-open" : ""}`}>
      <${Navigation} />
      <main id="main" tabindex="-1"><${Banner} /><${Outlet} /></main>
    </div>
    <${Toasts} /><${ConfirmDialog} /><${CommandPalette} />`;
}

/** Tries again; a module that failed is asked for by another name, because browsers remember failures. */
const tries = signal(0);

function Outlet() {
  const { segments } = place.value;
  const page = pageAt(segments);
  const [loaded, setLoaded] = useState(/** @type {{ name: string, component?: any, error?: unknown } | null} */ (null));
  const tried = tries.value;
  useEffect(() => {
    if (!page) return;
    let gone = false;
    page.load().then(
      (module) => gone || setLoaded({ name: page.name, component: module.default }),
      (error) => gone || setLoaded({ name: page.name, error }),
    );
    return () => void (gone = true);
  }, [page, tried]);
  if (!page) {
    return html`<${Page} title="No such page"><${ErrorState} title="There is nothing here" error=${`The dashboard has no page at ${place.value.path}.`}><div class="actions"><${ButtonLink} href="/">Go home<//></div><//><//>`;
  }
  if (loaded?.name !== page.name) return html`<${Loading} what=${`Loading ${page.title}`} />`;
  if (loaded.error) {
    console.warn("a page did not load", loaded.error);
    return html`<${Page} title=${page.title}><${ErrorState} title="This page did not load" error="The gateway was stopped or updated since this tab was opened.">
      <div class="actions"><${Button} kind="primary" onClick=${() => location.reload()}>Reload<//></div><//><//>`;
  }
  const Component = loaded.component;
  return html`<${Guarded} key=${page.name}><${Component} /><//>`;
}

/** A page that fails takes nothing else with it. */
class Guarded extends Component {
  /** @type {{ error: unknown }} */
  state = { error: null };
  /** @param {unknown} error */
  static getDerivedStateFromError(error) {
    return { error };
  }
  /** @param {unknown} error */
  componentDidCatch(error) {
    console.error("a page failed", error);
  }
  render() {
    if (this.state.error === null) return this.props.children;
    return html`<${Page} title="Something broke"><${ErrorState} title="This page failed" error=${this.state.error} retry=${() => this.setState({ error: null })} /><//>`;
  }
}

register([
  ...pages.map((page) => ({ id: `go-${page.name}`, title: page.title, group: "Go to", keywords: page.keywords, run: () => navigate(page.path) })),
  { id: "theme", title: "Change the theme", group: "Appearance", keywords: "dark light auto", run: nextTheme },
  { id: "start", title: "Start the gateway", group: "Gateway", keywords: "run", run: () => void steer("start").then(() => toast("The gateway runs"), toast.failed) },
  { id: "stop", title: "Stop the gateway", group: "Gateway", keywords: "halt", run: () => void steer("stop").then(() => toast("The gateway is stopped"), toast.failed) },
]);

const root = /** @type {HTMLElement} */ (document.getElementById("app"));
root.replaceChildren();
render(html`<${App} />`, root);
performance.mark("qwarden-interactive");
