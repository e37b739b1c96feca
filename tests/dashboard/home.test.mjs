import assert from "node:assert/strict";
import { look, test } from "./fixture.mjs";

test("first run to first answer", async ({ page, gateway, upstream }) => {
  await page.goto(gateway.url);
  const step = (title) => page.getByRole("listitem").filter({ hasText: title });
  await page.getByRole("heading", { name: "Set up in three steps" }).waitFor();
  await step("Connect a model").getByRole("link", { name: "Log in to Qwen" }).waitFor();
  await step("Start the gateway").getByRole("button", { name: "Start" }).waitFor();
  await look(page, "home-first-run");
  // A provider is added elsewhere; the page hears of it.
  await gateway.connect(upstream);
  await step("Connect a model").getByText("done").waitFor();
  await step("Start the gateway").getByRole("button", { name: "Start" }).click();
  await step("Start the gateway").getByText("done").waitFor();
  // What the page says is what works.
  const address = await page.locator("#snippet code").first().textContent();
  assert.match(String(address), /^http:\/\/127\.0\.0\.1:\d+\/v1$/);
  await page.getByRole("button", { name: "Copy curl snippet" }).click();
  const copied = await page.evaluate(() => navigator.clipboard.readText());
  const body = JSON.parse(/-d '(.*)'$/s.exec(copied)[1]);
  const answer = await fetch(`${address}/chat/completions`, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });
  assert.equal(answer.status, 200);
  await page.getByRole("heading", { name: "Set up in three steps" }).waitFor({ state: "detached" });
}, { setUp: false, gateway: ["--no-gateway"] });

test("cards and charts follow what other clients do", async ({ page, gateway, upstream }) => {
  await page.goto(gateway.url);
  const card = (title) => page.getByTestId("cards").locator(".card").filter({ hasText: title });
  await card("Tokens today").getByText("0", { exact: true }).waitFor();
  for (let asked = 0; asked < 3; asked += 1) assert.equal((await gateway.chat("hi")).status, 200);
  await card("Requests").getByText("3 in the last minute").waitFor();
  await card("Tokens today").getByText("36", { exact: true }).waitFor();
  upstream.say = () => ({ status: 400, text: "no" });
  assert.equal((await gateway.chat("hi")).status, 400);
  await card("Failed today").getByText("1", { exact: true }).waitFor();
  // The chart's own text says the same.
  await page.getByRole("img", { name: /^Failures\. Failures: latest \d, highest 1/ }).waitFor();
  await page.getByRole("button", { name: "Failures as a table" }).click();
  await page.getByRole("table", { name: "Failures" }).getByRole("cell", { name: "1", exact: true }).waitFor();
  await page.getByRole("button", { name: "Failures as a table" }).click();
  await look(page, "home");
});

test("names of models stay text", async ({ page, gateway }) => {
  const name = `<img src=x onerror="window.hit=1">`;
  await gateway.api("PUT", "/api/settings/active_model", { value: name }).catch(() => {});
  await gateway.chat(name, { model: name });
  await page.goto(gateway.url);
  await page.getByRole("heading", { name: "Your client" }).waitFor();
  assert.equal(await page.locator("main img").count(), 0);
  assert.equal(await page.evaluate(() => window.hit), undefined);
});
