import assert from "node:assert/strict";
import { look, test, until } from "./fixture.mjs";

const EVIL = `<img/src=x/onerror="document.title='owned'">`;
const table = (page, name) => page.getByRole("table", { name, exact: true });
const stored = (gateway, name) => gateway.api("GET", `/api/virtual-models/${encodeURIComponent(name)}`);
const targets = (model) => model.targets.map(({ target }) => target);

/** A second provider, with the same models and what is known of one. */
async function second(gateway, upstream) {
  await gateway.api("POST", "/api/providers", { id: "other", name: "Other", type: "openai", config: { baseURL: upstream.base }, priority: -1 });
  await gateway.api("POST", "/api/models", { id: "fake-1", name: "Fake One", capabilities: ["code"] });
  await gateway.api("POST", "/api/providers/fake/models", { model_id: "fake-1", config: { context_length: 32_000, tools: true, vision: false, price: { input: 1.5, output: 2 } } });
}

test("all models, who serves them and what is known of them", async ({ page, gateway, upstream }) => {
  await second(gateway, upstream);
  await page.goto(`${gateway.url}/models`);
  const row = (name) => table(page, "Models").getByRole("row").filter({ has: page.getByRole("button", { name, exact: true }) });
  await row("fake-1").getByText("fake", { exact: true }).waitFor();
  for (const text of ["other", "tools", "code", "32K", "$1.5 / $2"]) await row("fake-1").getByText(text, { exact: true }).waitFor();
  // What another client adds appears, as text.
  await gateway.api("POST", "/api/virtual-models", { name: EVIL, targets: ["fake/fake-2"] });
  await row(EVIL).getByText("virtual", { exact: true }).waitFor();
  assert.equal(await page.locator("main img").count(), 0);
  assert.equal((await gateway.chat("hi")).status, 200);
  await row("fake-1").getByRole("button", { name: "fake-1" }).click();
  await page.waitForURL(/model=fake-1/);
  const dialog = page.getByRole("dialog", { name: "fake-1" });
  await dialog.getByRole("row").filter({ hasText: "fake" }).getByText("Healthy").first().waitFor();
  await look(page, "models-one");
  await dialog.getByRole("button", { name: "Make it the default" }).click();
  await dialog.getByText("Yes: requests that name no model get it").waitFor();
  assert.equal((await gateway.api("GET", "/api/settings/active_model")).value, "fake-1");
  await page.keyboard.press("Escape");
  await row("fake-1").getByText("default", { exact: true }).waitFor();
  await look(page, "models");
  await page.getByLabel("Find", { exact: true }).fill("fake-2");
  await row("fake-1").waitFor({ state: "detached" });
  await page.reload();
  await row("fake-2").waitFor();
  assert.equal(await row("fake-1").count(), 0);
});

test("a virtual model: its targets ordered by keyboard and by dragging, never over another's change", async ({ page, gateway, upstream, allow }) => {
  allow(/status of 4(12|22)/);
  await second(gateway, upstream);
  await page.goto(`${gateway.url}/models?tab=virtual`);
  await page.getByText("No virtual models yet").waitFor();
  await page.getByRole("button", { name: "Make one" }).click();
  const form = page.getByRole("dialog");
  const place = (at) => form.getByLabel(`Target ${at}`, { exact: true });
  await form.getByLabel("Name").fill("coder");
  await place(1).fill("coder");
  await form.getByRole("button", { name: "Make it" }).click();
  await form.getByText(/must not be the virtual model itself/).waitFor();
  await place(1).fill("fake/fake-1");
  for (const [at, name] of [[2, "other/fake-1"], [3, "fake/fake-2"]]) {
    await form.getByRole("button", { name: "Target", exact: true }).click();
    await place(at).fill(String(name));
  }
  // By keyboard: the last goes first.
  await form.getByRole("button", { name: "Move target 3: fake/fake-2" }).focus();
  await page.keyboard.press("ArrowUp");
  await form.getByText("fake/fake-2 is now number 2 of 3").waitFor();
  await page.keyboard.press("ArrowUp");
  assert.equal(await place(1).inputValue(), "fake/fake-2");
  await look(page, "models-editor");
  await form.getByRole("button", { name: "Make it" }).click();
  await page.getByText("coder is saved").waitFor();
  assert.deepEqual(targets(await stored(gateway, "coder")), ["fake/fake-2", "fake/fake-1", "other/fake-1"]);
  // By dragging: the first goes last; then by weights.
  await table(page, "Virtual models").getByRole("button", { name: "coder", exact: true }).click();
  const handle = await form.getByRole("button", { name: /^Move target 1/ }).boundingBox();
  const last = await form.getByRole("button", { name: /^Move target 3/ }).boundingBox();
  await page.mouse.move(handle.x + 10, handle.y + 10);
  await page.mouse.down();
  await page.mouse.move(handle.x + 10, last.y + last.height - 2, { steps: 12 });
  await page.mouse.up();
  assert.deepEqual(await Promise.all([1, 2, 3].map((at) => place(at).inputValue())), ["fake/fake-1", "other/fake-1", "fake/fake-2"]);
  await form.getByLabel("Order").selectOption("weighted");
  await form.getByLabel("Weight of target 1").fill("3");
  await gateway.api("PATCH", "/api/virtual-models/coder", { description: "changed elsewhere" });
  await form.getByRole("button", { name: "Save", exact: true }).click();
  await form.getByText("Somebody changed it while you did").waitFor();
  await form.getByRole("button", { name: "Save mine all the same" }).click();
  await page.getByText("coder is saved").first().waitFor();
  await until(async () => (await stored(gateway, "coder")).strategy === "weighted", "it is stored");
  const after = await stored(gateway, "coder");
  assert.deepEqual(after.targets, [{ target: "fake/fake-1", weight: 3 }, { target: "other/fake-1", weight: 1 }, { target: "fake/fake-2", weight: 1 }]);
  const row = table(page, "Virtual models").getByRole("row").filter({ hasText: "coder" });
  await row.getByText("60%").waitFor();
  // A wildcard of another client, and what it does.
  await gateway.api("POST", "/api/virtual-models", { name: "gpt-*", targets: ["fake/fake-2"] });
  const wild = table(page, "Virtual models").getByRole("row").filter({ hasText: "gpt-*" });
  await wild.getByText("wildcard").waitFor();
  await look(page, "models-virtual");
  const answered = await gateway.chat("hi", { model: "gpt-9" });
  assert.equal(answered.status, 200);
  assert.equal(upstream.asked.at(-1).model, "fake-2");
  await wild.getByRole("button", { name: "Delete gpt-*" }).click();
  await page.getByRole("dialog", { name: "Delete gpt-*?" }).getByRole("button", { name: "Delete", exact: true }).click();
  await wild.waitFor({ state: "detached" });
  assert.notEqual((await gateway.chat("hi", { model: "gpt-9" })).status, 200);
});

test("where a name would go, and why, as it is now", async ({ page, gateway, upstream, allow }) => {
  allow(/status of 404/);
  await second(gateway, upstream);
  await gateway.api("POST", "/api/virtual-models", { name: "coder", targets: ["fake/fake-1", "other/fake-1"] });
  await page.goto(`${gateway.url}/models?tab=explain&name=coder`);
  const plan = page.getByRole("list", { name: "Targets, in order" }).getByRole("listitem");
  const passed = page.getByRole("list", { name: "Passed over" }).getByRole("listitem");
  await plan.first().getByText("fake/fake-1").waitFor();
  await plan.nth(1).getByText("other/fake-1").waitFor();
  await page.getByText("is a virtual model").waitFor();
  await page.getByLabel("With an image").check();
  await passed.filter({ hasText: "fake/fake-1" }).getByText("Cannot do it").waitFor();
  await page.waitForURL(/image=1/);
  await look(page, "models-explain");
  await page.getByLabel("With an image").uncheck();
  await plan.nth(1).waitFor();
  // A breaker opens meanwhile.
  upstream.say = () => ({ status: 500, text: "down" });
  const ask = () => gateway.chat("hi", { model: "fake/fake-1" });
  await until(async () => (await ask(), await passed.filter({ hasText: "fake/fake-1" }).getByText("Breaker open").isVisible()), "the breaker in the plan");
  await page.getByLabel("Model", { exact: true }).fill("fake-7");
  await page.getByRole("heading", { name: "It would go nowhere" }).waitFor();
  await page.getByText(/closest: `fake-1`/).waitFor();
  assert.equal(upstream.asked.some(({ model }) => model === "fake-7"), false);
});
