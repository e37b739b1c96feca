import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import { look, test, until } from "./fixture.mjs";

const EVIL = `<img src=x onerror="document.title='owned'">`;

/** A server that lists one model, answers all, and keeps the keys it is asked with. */
async function keeping(t) {
  const seen = [];
  const server = createServer(async (request, answer) => {
    for await (const _ of request);
    seen.push(request.headers.authorization ?? null);
    const body = request.method === "GET" ? { object: "list", data: [{ id: "kept-1", object: "model" }] } : { id: "c", object: "chat.completion", created: 1, model: "kept-1", choices: [{ index: 0, message: { role: "assistant", content: EVIL }, finish_reason: "stop" }] };
    answer.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(body));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => (server.closeAllConnections(), server.close()));
  return { seen, base: `http://127.0.0.1:${/** @type {any} */ (server.address()).port}/v1` };
}

test("a provider is added by preset: what fails is said and corrected, what works is enabled", async ({ page, gateway, upstream, allow }) => {
  allow(/status of 422/);
  await page.goto(`${gateway.url}/providers`);
  await page.getByRole("button", { name: "Add a provider" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByLabel("Find a preset").fill("openai-compat");
  await look(page, "providers-presets");
  await dialog.getByRole("button", { name: "OpenAI-compatible server" }).click();
  await dialog.getByLabel("Name").fill("Lab");
  await dialog.getByLabel("Id", { exact: false }).first().fill("lab");
  await dialog.getByLabel("API key").fill("sk-lab");
  // Nobody listens there.
  await dialog.getByLabel("Address").fill("http://127.0.0.1:9/v1");
  await dialog.getByRole("button", { name: "Test and add" }).click();
  await dialog.getByText("did not answer as hoped").waitFor();
  assert.equal((await gateway.api("GET", "/api/providers/lab")).enabled, false);
  await look(page, "providers-test-failed");
  await dialog.getByRole("button", { name: "Correct it" }).click();
  await dialog.getByLabel("Address").fill(upstream.base);
  await dialog.getByRole("button", { name: "Test and add" }).click();
  await dialog.getByText("It lists 2 models").waitFor();
  await dialog.getByRole("button", { name: "Show it" }).click();
  await page.waitForURL(/\/providers\/lab$/);
  await page.getByRole("heading", { name: "Lab", level: 1 }).waitFor();
  const stored = await gateway.api("GET", "/api/providers/lab");
  assert.deepEqual([stored.enabled, stored.config.baseURL, stored.config.apiKey], [true, upstream.base, "***MASKED***"]);
  // What the server refuses stands at its field.
  await page.goto(`${gateway.url}/providers?add=openai-compatible`);
  await dialog.getByLabel("Address").fill("nonsense");
  await dialog.getByRole("button", { name: "Test and add" }).click();
  await dialog.locator("[name=baseURL][aria-invalid=true]").waitFor();
}, { setUp: false });

test("an edit keeps what is masked, and never overwrites another one unseen", async ({ t, page, gateway, allow }) => {
  allow(/status of 412/);
  const own = await keeping(t);
  await gateway.api("POST", "/api/providers", { id: "kept", name: "Kept", type: "openai", config: { baseURL: own.base, apiKey: "sk-kept", headers: { "x-team": "a", "x-secret": "hidden" } } });
  await page.goto(`${gateway.url}/providers/kept`);
  const edit = page.getByRole("button", { name: "Edit", exact: true });
  await edit.click();
  const dialog = page.getByRole("dialog", { name: "Edit Kept" });
  await dialog.getByText("More settings").click();
  await dialog.getByLabel("Headers").fill((await dialog.getByLabel("Headers").inputValue()).replace("x-team: a", "x-team: b"));
  await dialog.getByLabel("Silence limit").fill("5000");
  await look(page, "providers-edit");
  // Somebody else is quicker.
  await gateway.api("PUT", "/api/providers/kept", { priority: 7 });
  await dialog.getByRole("button", { name: "Save", exact: true }).click();
  await dialog.getByText("Somebody changed it while you did").waitFor();
  await dialog.getByRole("button", { name: "Show what is stored now" }).click();
  await dialog.getByRole("spinbutton", { name: "Priority" }).and(dialog.locator("[name=priority]")).waitFor();
  await until(async () => (await dialog.locator("[name=priority]").inputValue()) === "7", "the new priority");
  await dialog.getByText("More settings").click();
  await dialog.getByLabel("Headers").fill((await dialog.getByLabel("Headers").inputValue()).replace("x-team: a", "x-team: b"));
  await dialog.getByLabel("Silence limit").fill("5000");
  await dialog.getByRole("button", { name: "Save", exact: true }).click();
  await page.getByText("Kept is saved").waitFor();
  const stored = await gateway.api("GET", "/api/providers/kept");
  assert.equal(stored.priority, 7);
  assert.deepEqual([stored.config.timeout, stored.config.headers["x-team"], stored.config.apiKey], [5000, "b", "***MASKED***"]);
  // The key itself is still sent.
  own.seen.length = 0;
  await page.getByRole("button", { name: "Test", exact: true }).click();
  await page.getByText("Kept works. It lists 1 model").waitFor();
  assert.deepEqual(own.seen, ["Bearer sk-kept"]);
  // What a model answers is text.
  await page.getByRole("button", { name: "Ask", exact: true }).click();
  await page.getByText(EVIL).waitFor();
  assert.equal(await page.locator("main img").count(), 0);
  // Emptied, the key is gone.
  await edit.click();
  await dialog.getByLabel("API key").fill("");
  await dialog.getByRole("button", { name: "Save", exact: true }).click();
  await until(async () => !("apiKey" in (await gateway.api("GET", "/api/providers/kept")).config), "no key");
});

test("a breaker that opens is seen at once, target by target", async ({ page, gateway, upstream }) => {
  await page.goto(`${gateway.url}/providers/fake`);
  await page.getByText("No request went here yet").waitFor();
  assert.equal((await gateway.chat("hi")).status, 200);
  const row = page.getByRole("table", { name: "Models used" }).getByRole("row").filter({ hasText: "fake-1" });
  await row.getByText("Healthy").waitFor();
  upstream.say = () => ({ status: 500, text: "down" });
  const isOpen = async () => {
    const { health } = await gateway.api("GET", "/api/providers/fake");
    return [health, ...health.models].some(({ breaker }) => breaker === "open");
  };
  await until(async () => (await isOpen()) || ((await gateway.chat("hi")), false), "an open breaker");
  await page.getByText(/Breaker open/).first().waitFor();
  await look(page, "providers-breaker");
  await page.goto(`${gateway.url}/providers?show=trouble`);
  const listed = page.getByRole("table", { name: "Providers" }).getByRole("row").filter({ hasText: "Fake" });
  await listed.getByText(/Breaker open|held/).locator("visible=true").first().waitFor();
});

test("the list follows other clients, and steers", async ({ page, gateway }) => {
  await page.goto(`${gateway.url}/providers?show=enabled`);
  const row = (name) => page.getByRole("table", { name: "Providers" }).getByRole("row").filter({ hasText: name });
  await row("Fake").waitFor();
  await gateway.api("POST", "/api/providers", { id: "evil", name: EVIL, type: "openai", description: EVIL, config: { baseURL: "http://127.0.0.1:9/v1" } });
  await row(EVIL).waitFor();
  assert.equal(await page.locator("main img").count(), 0);
  await look(page, "providers");
  const priority = row("Fake").getByRole("spinbutton");
  await priority.fill("42");
  await priority.press("Enter");
  await page.getByText("Fake has priority 42").waitFor();
  assert.equal((await gateway.api("GET", "/api/providers/fake")).priority, 42);
  await row("Fake").getByRole("button", { name: "Disable Fake" }).click();
  await row("Fake").waitFor({ state: "detached" });
  assert.notEqual((await gateway.chat("hi")).status, 200);
  await page.getByLabel("Show").selectOption("disabled");
  await row("Fake").getByRole("button", { name: "Enable Fake" }).click();
  await until(async () => (await gateway.chat("hi")).status === 200, "an answer");
  // One provider, its models, and its end.
  await page.goto(`${gateway.url}/providers/fake`);
  await page.getByRole("button", { name: "Sync models" }).first().click();
  const models = page.getByRole("table", { name: "Models" });
  await models.getByRole("row").filter({ hasText: "fake-2" }).getByRole("button", { name: "Make default: fake-2" }).click();
  await models.getByRole("row").filter({ hasText: "fake-2" }).getByText("default", { exact: true }).waitFor();
  await page.getByRole("button", { name: "Add by name" }).click();
  await page.getByRole("dialog").getByLabel("Name").fill("fake-hidden");
  await page.getByRole("dialog").getByRole("button", { name: "Add it" }).click();
  await models.getByRole("row").filter({ hasText: "fake-hidden" }).waitFor();
  assert.equal((await gateway.chat("hi", { model: "fake-hidden" })).status, 200);
  await look(page, "provider");
  await page.getByRole("button", { name: "Delete", exact: true }).click();
  const question = page.getByRole("dialog", { name: "Delete Fake?" });
  await question.getByRole("button", { name: "Delete", exact: true }).click();
  await page.waitForURL(/\/providers$/);
  await page.getByText("Fake is deleted").waitFor();
  await row("Fake").waitFor({ state: "detached" });
});

test("by keyboard alone", async ({ page, gateway }) => {
  await page.goto(`${gateway.url}/providers`);
  await page.getByLabel("Find", { exact: true }).focus();
  await page.keyboard.type("fake");
  await page.waitForURL(/q=fake/);
  const focused = () => page.evaluate(() => document.activeElement?.textContent);
  for (let step = 0; step < 12 && (await focused()) !== "Fake"; step += 1) await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  await page.waitForURL(/\/providers\/fake/);
  await page.getByRole("heading", { name: "Fake", level: 1 }).waitFor();
  for (let step = 0; step < 12 && (await focused()) !== "Edit"; step += 1) await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  await page.getByRole("dialog", { name: "Edit Fake" }).waitFor();
  await page.keyboard.press("Escape");
  await page.getByRole("dialog").waitFor({ state: "detached" });
  assert.equal(await focused(), "Edit");
});
