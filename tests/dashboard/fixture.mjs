// What every test of the dashboard has: a gateway of its own on free ports with a fresh folder, a scripted upstream, and a page in
// a real browser. A test fails when the page logs an error, throws, breaks its policy, or asks another origin.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test as nodeTest } from "node:test";
import { fileURLToPath } from "node:url";
import { serve } from "./dev.mjs";
import { chromium, selectors } from "playwright-core";

const root = fileURLToPath(new URL("../../", import.meta.url));
const binary = process.env.QWARDEN ?? join(root, "target/dashboard/qwarden");
const shots = join(root, "target/dashboard/shots");
const axe = readFileSync(fileURLToPath(new URL("node_modules/axe-core/axe.min.js", import.meta.url)), "utf8");
const PATIENCE = 20_000;

selectors.setTestIdAttribute("data-test");
let browser;
after(async () => browser?.close());

/**
 * A test with `{ page, gateway, upstream, context, allow, newPage }`. `allow(/pattern/)` lets one kind of error pass that the test causes.
 * @param {string} name @param {(all: any) => Promise<void>} run @param {{ gateway?: string[], setUp?: boolean, timeout?: number }} [options]
 *   `timeout`: ms, where 90 s are not enough for a busy machine; `gateway`: more arguments of `qwarden serve`; `setUp: false`: without the provider `fake`
 */
export function test(name, run, options = {}) {
  nodeTest(name, { timeout: options.timeout ?? 90_000 }, async (t) => {
    browser ??= await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox"] });
    const upstream = await startUpstream();
    const gateway = await startGateway(options.gateway);
    const allowed = [];
    const wrong = [];
    const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, permissions: ["clipboard-read", "clipboard-write"], colorScheme: "light" });
    context.setDefaultTimeout(PATIENCE);
    const watch = (page) => {
      page.on("console", (message) => message.type() === "error" && wrong.push(`logged: ${message.text()} ${message.location().url}`));
      page.on("pageerror", (error) => wrong.push(`threw: ${error.stack ?? error}`));
    };
    context.on("page", watch);
    context.on("request", (request) => {
      const url = new URL(request.url());
      if (url.origin !== gateway.url && !["data:", "blob:", "about:"].includes(url.protocol)) wrong.push(`asked ${request.url()}`);
    });
    try {
      if (options.setUp !== false) await gateway.connect(upstream);
      const page = await context.newPage();
      await run({ t, page, gateway, upstream, context, newPage: () => context.newPage(), allow: (pattern) => allowed.push(pattern) });
    } catch (error) {
      const [page] = context.pages();
      mkdirSync(join(root, "target/dashboard/failed"), { recursive: true });
      await page?.screenshot({ path: join(root, "target/dashboard/failed", `${name.replace(/\W+/g, "-")}.png`), fullPage: true }).catch(() => {});
      if (wrong.length) error.message += `\nthe page: ${wrong.join("\n")}`;
      throw error;
    } finally {
      await context.close();
      await gateway.end();
      rmSync(gateway.folder, { recursive: true, force: true });
      upstream.close();
    }
    assert.deepEqual(wrong.filter((text) => !allowed.some((pattern) => pattern.test(text))), []);
  });
}

/** @param {string[]} [more] */
async function startGateway(more = []) {
  const folder = mkdtempSync(join(tmpdir(), "qwarden-dashboard-"));
  let ports = ["--port", "0", "--qwen-port", "0", "--api-port", "0"];
  /** @type {import("node:child_process").ChildProcess} */
  let child;
  /** @type {import("node:http").Server | undefined} with DASHBOARD_DEV=1 the files on the disk, instead of those in the binary */
  let dev;
  let own = "";
  const gateway = {
    folder,
    url: "",
    router: "",
    async start() {
      child = spawn(binary, ["serve", ...ports, "--no-discovery", "--log-format", "json", "--data-dir", join(folder, "data"), ...more], { stdio: ["ignore", "pipe", "pipe"] });
      const log = [];
      child.stderr.on("data", (piece) => log.push(piece));
      let said = "";
      await new Promise((resolve, reject) => {
        child.stdout.on("data", (piece) => {
          said += piece;
          if (/management\s+http\S+[\s\S]*database/.test(said)) resolve(undefined);
        });
        child.on("exit", (code) => reject(new Error(`qwarden ended with ${code}: ${said}${log.join("")}`)));
      });
      const url = (name) => new RegExp(`${name}\\s+(http://[^\\s/]+)`).exec(said)?.[1] ?? "";
      [own, gateway.router] = [url("management"), url("router")];
      const port = (of) => new URL(of).port;
      // The same address after a restart.
      ports = ["--api-port", port(own), "--port", gateway.router ? port(gateway.router) : "0", "--qwen-port", url("qwen proxy") ? port(url("qwen proxy")) : "0"];
      if (process.env.DASHBOARD_DEV) dev ??= await serve(0, () => own);
      gateway.url = dev ? `http://127.0.0.1:${/** @type {any} */ (dev.address()).port}` : own;
    },
    async end() {
      await gateway.kill();
      dev?.closeAllConnections();
      dev?.close();
    },
    /** As a crash of the process would. */
    async kill() {
      if (child.exitCode !== null || child.signalCode !== null) return;
      child.kill("SIGKILL");
      await once(child, "exit");
    },
    /** Asks the management API; throws when it refuses. */
    async api(method, path, body, headers = {}) {
      const answer = await fetch(gateway.url + path, { method, headers: { ...(body === undefined ? {} : { "content-type": "application/json" }), ...headers }, body: body === undefined ? undefined : JSON.stringify(body) });
      const text = await answer.text();
      if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${text}`);
      return text ? JSON.parse(text) : null;
    },
    /** The provider `fake` with the model `fake-1`, answered by the scripted upstream. */
    async connect(upstream) {
      await gateway.api("POST", "/api/providers", { id: "fake", name: "Fake", type: "openai", enabled: true, config: { baseURL: upstream.base, apiKey: "sk-fake" } });
    },
    /** What another client asks. @param {string} content @param {object} [more] */
    async chat(content, more = {}) {
      const answer = await fetch(`${gateway.router}/v1/chat/completions`, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ model: "fake-1", messages: [{ role: "user", content }], ...more }) });
      return { status: answer.status, text: await answer.text() };
    },
  };
  await gateway.start();
  return gateway;
}

/**
 * An upstream that says what `upstream.say(body, path)` gives for a request: text, or `{ text, thinking, tools, status, chunks, pause, tokens }`
 * (`chunks`: also an async generator, which is ended when the gateway leaves; `tokens`: `[in, out]`). It lists `upstream.models(path)`.
 * Default: "You said: ..." with the last message. `upstream.asked` keeps the bodies it got.
 */
async function startUpstream() {
  const upstream = { base: "", models: (/** @type {string} */ _path) => ["fake-1", "fake-2"], asked: /** @type {any[]} */ ([]), say: (/** @type {any} */ body) => /** @type {any} */ (`You said: ${text(body.messages?.at(-1)?.content)}`), close: () => {} };
  const server = createServer(async (request, answer) => {
    let raw = "";
    for await (const piece of request) raw += piece;
    const json = (status, body) => answer.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
    if (request.method === "GET") return json(200, { object: "list", data: upstream.models(request.url ?? "").map((id) => ({ id, object: "model" })) });
    const body = raw ? JSON.parse(raw) : {};
    upstream.asked.push(body);
    const said = await upstream.say(body, request.url);
    const { text: content = "", thinking, tools, status = 200, chunks, pause = 0, tokens = [7, 5] } = typeof said === "string" ? { text: said } : said;
    if (status !== 200) return json(status, { error: { message: content || "the upstream failed", type: "server_error" } });
    const usage = { prompt_tokens: tokens[0], completion_tokens: tokens[1], total_tokens: tokens[0] + tokens[1] };
    const common = { id: "chatcmpl-1", created: 1_700_000_000, model: body.model };
    const finish = tools ? "tool_calls" : "stop";
    const calls = tools?.map((tool, index) => ({ index, id: `call_${index}`, type: "function", function: { name: tool.name, arguments: JSON.stringify(tool.arguments ?? {}) } }));
    if (!body.stream) {
      const message = { role: "assistant", content, ...(thinking ? { reasoning_content: thinking } : {}), ...(calls ? { tool_calls: calls } : {}) };
      return json(200, { ...common, object: "chat.completion", choices: [{ index: 0, message, finish_reason: finish }], usage });
    }
    answer.writeHead(200, { "content-type": "text/event-stream" });
    const send = (delta, reason = null) => answer.write(`data: ${JSON.stringify({ ...common, object: "chat.completion.chunk", choices: [{ index: 0, delta, finish_reason: reason }] })}\n\n`);
    send({ role: "assistant", content: "" });
    if (thinking) send({ reasoning_content: thinking });
    if (calls) send({ tool_calls: calls });
    for await (const piece of chunks ?? (content ? content.match(/[\s\S]{1,12}/g) : [])) {
      if (answer.destroyed) return;
      send({ content: piece });
      if (pause) await new Promise((resolve) => setTimeout(resolve, pause));
    }
    send({}, finish);
    answer.write(`data: ${JSON.stringify({ ...common, object: "chat.completion.chunk", choices: [], usage })}\n\ndata: [DONE]\n\n`);
    answer.end();
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  upstream.base = `http://127.0.0.1:${/** @type {any} */ (server.address()).port}/v1`;
  upstream.close = () => {
    server.closeAllConnections();
    server.close();
  };
  return upstream;
}

/** @param {any} content */
const text = (content) => (typeof content === "string" ? content : JSON.stringify(content ?? ""));

/** Waits until what is given holds, for what no locator can wait for. @param {() => any} holds @param {string} what */
export async function until(holds, what) {
  const end = Date.now() + PATIENCE;
  for (;;) {
    if (await holds()) return;
    if (Date.now() > end) throw new Error(`not within ${PATIENCE} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/**
 * Looks at a page in light and dark, on a desktop and on a phone: axe finds nothing serious, nothing is wider than the window, and
 * the screenshots go to target/dashboard/shots.
 * @param {import("playwright-core").Page} page @param {string} name @param {{ axe?: "each" | "once" }} [options] `once`: on a dark phone only,
 *   for pages that other tests look at
 */
export async function look(page, name, { axe: often = "each" } = {}) {
  mkdirSync(shots, { recursive: true });
  const before = page.viewportSize();
  for (const [size, width, height] of /** @type {[string, number, number][]} */ ([["desktop", 1280, 900], ["phone", 360, 740]])) {
    await page.setViewportSize({ width, height });
    for (const colorScheme of /** @type {("light" | "dark")[]} */ (["light", "dark"])) {
      await page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
      await page.waitForFunction((wanted) => document.documentElement.dataset.theme === wanted, colorScheme);
      // Two frames: charts draw themselves again in the first.
      await page.evaluate(() => (window.scrollTo(0, 0), new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)))));
      await page.screenshot({ path: join(shots, `${name}-${size}-${colorScheme}.png`), fullPage: true });
      if (often === "each" || (size === "phone" && colorScheme === "dark")) await accessible(page, `${name}, ${size}, ${colorScheme}`);
    }
    const wide = await page.evaluate(() => document.documentElement.scrollWidth);
    assert.ok(wide <= width, `${name} is ${wide} px wide in a window of ${width}`);
  }
  await page.emulateMedia({ colorScheme: "light", reducedMotion: null });
  if (before) await page.setViewportSize(before);
}

/** What a page shows is there: nothing is being loaded, and its charts are drawn. @param {import("playwright-core").Page} page */
export async function settled(page) {
  await page.getByRole("heading", { level: 1 }).first().waitFor();
  await page.waitForLoadState("load");
  await page.waitForFunction(() => !document.querySelector("main .state[role=status], main .pending, main [aria-busy=true]") && [...document.querySelectorAll(".chart-box")].every((box) => box.querySelector("canvas")));
}

/** axe finds no violation that is serious. @param {import("playwright-core").Page} page @param {string} where */
export async function accessible(page, where) {
  await page.evaluate(`${axe};undefined`);
  const found = await page.evaluate(async () => {
    const { violations } = await /** @type {any} */ (window).axe.run(document, { resultTypes: ["violations"] });
    return violations.map((/** @type {any} */ { id, impact, nodes }) => ({ id, impact, nodes: nodes.map((/** @type {any} */ { html, failureSummary }) => `${html} ${failureSummary}`) }));
  });
  assert.deepEqual(found.filter(({ impact }) => ["serious", "critical"].includes(impact)), [], where);
}
