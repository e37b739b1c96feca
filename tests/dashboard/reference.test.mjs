import assert from "node:assert/strict";
import { look, test } from "./fixture.mjs";

test("an operation is found, read and tried", async ({ page, gateway }) => {
  await page.goto(`${gateway.url}/reference`);
  await page.getByRole("heading", { name: /qwarden management/ }).waitFor();
  await look(page, "reference");
  await page.getByRole("searchbox", { name: "Search the API" }).fill("supervision tree");
  const index = page.getByRole("navigation", { name: "Operations" });
  await index.getByRole("link", { name: /^GET \/api\/supervision$/ }).click();
  await page.waitForURL(/\/reference\/get_api_supervision/);
  await page.getByRole("heading", { level: 2, name: /\/api\/supervision/ }).waitFor();
  await page.getByRole("button", { name: "Send" }).click();
  const answer = page.getByRole("region", { name: "Answer" });
  await answer.getByText("200", { exact: true }).waitFor();
  await answer.getByText(/"name": "root"/).waitFor();
});

test("a path's parts are asked for, and a refusal is shown as it is", async ({ page, gateway, allow }) => {
  allow(/status of 404/);
  await page.goto(`${gateway.url}/reference/get_api_providers_id`);
  await page.getByRole("button", { name: "Send" }).click();
  await page.getByText("is needed").waitFor();
  await page.getByLabel("id").fill("fake/../x");
  await page.getByText("/api/providers/fake%2F..%2Fx").waitFor();
  await page.getByRole("button", { name: "Send" }).click();
  const answer = page.getByRole("region", { name: "Answer" });
  await answer.getByText("404", { exact: true }).waitFor();
  await page.getByLabel("id").fill("fake");
  await page.getByRole("button", { name: "Send" }).click();
  await answer.getByText(/"id": "fake"/).waitFor();
  assert.match(await answer.textContent(), /MASKED/);
  await page.getByRole("button", { name: "Members of health" }).first().click();
  await page.getByText("latency_ms").first().waitFor();
  await look(page, "reference-operation");
});

test("what changes something is a command, not a button", async ({ page, gateway }) => {
  await page.goto(`${gateway.url}/reference/post_api_providers`);
  await page.getByText(/curl -X POST/).waitFor();
  assert.match(String(await page.getByRole("group", { name: "Command" }).textContent()), /-d '\{"id":"…","name":"…","type":"…"\}'/);
  assert.equal(await page.getByRole("button", { name: "Send" }).count(), 0);
  await page.goto(`${gateway.url}/reference/get_api_events`);
  await page.getByText(/It never ends/).waitFor();
});
