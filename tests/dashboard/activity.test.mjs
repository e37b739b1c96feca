import assert from "node:assert/strict";
import { look, test } from "./fixture.mjs";

test("what happens elsewhere appears, by its kind, and stays text", async ({ page, gateway }) => {
  await page.goto(`${gateway.url}/activity`);
  const feed = page.getByRole("list", { name: "What happened, newest first" });
  await feed.getByText("provider fake created").waitFor();
  await gateway.chat("hello");
  await feed.getByText(/API request to \/v1\/chat\/completions \(model: fake-1\)/).waitFor();
  await gateway.api("POST", "/api/providers", { id: "x", name: "<img src=x onerror=window.hit=1>", type: "openai", config: { baseURL: "http://127.0.0.1:9/v1", apiKey: "k" } });
  await feed.getByText("provider x created").waitFor();
  await gateway.api("POST", "/api/fault/crash/router");
  await feed.getByText("actor router restarted").waitFor();
  await look(page, "activity");
  await page.getByRole("group", { name: "Kinds" }).getByRole("button", { name: /^Requests/ }).click();
  await page.waitForURL(/types=api_request/);
  await feed.getByText("provider x created").waitFor({ state: "detached" });
  assert.equal(await feed.getByRole("listitem").count(), 1);
  await page.reload();
  await feed.getByText(/API request/).waitFor();
  await page.getByRole("searchbox", { name: "Search" }).fill("nothing like it");
  await page.getByText("Nothing fits").waitFor();
  await page.getByRole("button", { name: "Show all" }).click();
  await feed.getByText("provider x created").waitFor();
  assert.equal(await page.evaluate(() => window.hit), undefined);
});

test("the audit log says who changed what, from what to what", async ({ page, gateway }) => {
  await page.goto(`${gateway.url}/activity?tab=audit`);
  const table = page.getByRole("table", { name: "Changes, newest first" });
  await table.getByText("Provider fake").first().waitFor();
  await gateway.api("PUT", "/api/settings/server.timeout", { value: 90_000 });
  const row = table.getByRole("row").filter({ hasText: "server.timeout" });
  await row.getByText("120000 → 90000").waitFor();
  await gateway.api("PUT", "/api/providers/fake", { name: "<img src=x onerror=window.hit=1>" });
  await table.getByText(/name: "Fake" → "<img/).waitFor();
  await look(page, "activity-audit");
  await row.getByRole("button", { name: "Setting server.timeout" }).click();
  const dialog = page.getByRole("dialog", { name: "Setting server.timeout: updated" });
  await dialog.getByLabel("Before", { exact: true }).getByText("120000").waitFor();
  await dialog.getByText("local").waitFor();
  await look(page, "activity-change");
  await page.keyboard.press("Escape");
  await page.getByLabel("What was changed").selectOption("setting");
  await page.waitForURL(/entity=setting/);
  await table.getByText("Provider fake").first().waitFor({ state: "detached" });
  await row.getByText("120000 → 90000").waitFor();
  assert.equal(await table.locator("tbody tr").count(), 1);
  const { changes } = await gateway.api("GET", "/api/audit?limit=200");
  assert.ok(!JSON.stringify(changes).includes("sk-fake"), "no secret is in the audit log");
  assert.equal(await page.evaluate(() => window.hit), undefined);
});

test("the audit log comes by pages", async ({ page, gateway }) => {
  for (let at = 0; at < 60; at += 1) await gateway.api("PUT", "/api/settings/active_model", { value: `model-${at}` });
  await page.goto(`${gateway.url}/activity?tab=audit&entity=setting`);
  await page.getByText("50 of 60").waitFor();
  await page.getByRole("button", { name: "Show more" }).click();
  await page.getByRole("table", { name: "Changes, newest first" }).getByText('"model-0"', { exact: true }).waitFor();
});
