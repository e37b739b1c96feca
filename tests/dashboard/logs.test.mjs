import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { look, test, until } from "./fixture.mjs";

const DEBUG = { gateway: ["--log-level", "debug"] };

test("lines appear as they are written, by level and by what they say", async ({ page, gateway }) => {
  await page.goto(`${gateway.url}/logs`);
  const lines = page.getByTestId("line");
  await page.getByText(/, live$/).waitFor();
  await gateway.api("POST", "/api/fault/crash/router");
  const failed = lines.filter({ hasText: "router" }).filter({ hasNotText: "debug" });
  await failed.first().waitFor();
  await fetch(`${gateway.url}/api/providers/nope-1`);
  await lines.filter({ hasText: "path=/api/providers/nope-1" }).first().waitFor();
  await look(page, "logs");
  await page.getByLabel("Show", { exact: true }).selectOption("warn");
  await page.waitForURL(/level=warn/);
  await lines.filter({ hasText: "path=/api/providers/nope-1" }).first().waitFor({ state: "detached" });
  await failed.first().waitFor();
  await page.getByLabel("Show", { exact: true }).selectOption("debug");
  await page.getByRole("searchbox", { name: "Search" }).fill("/api/providers/nope-1");
  await page.waitForURL(/q=/);
  await until(async () => (await lines.count()) === 1, "one line says it");
  const [saved] = await Promise.all([page.waitForEvent("download"), page.getByRole("button", { name: "Download" }).click()]);
  assert.match(readFileSync(await saved.path(), "utf8"), /^\d{4}-\S+Z DEBUG qwarden\S* .*nope-1/);
  assert.equal(await page.evaluate(() => window.hit), undefined);
  await page.getByLabel("Log level").selectOption("info");
  await page.getByText("From info on is logged now").waitFor();
  assert.equal((await gateway.api("GET", "/api/settings/logging.level")).value, "info");
}, DEBUG);

test("a pause holds the lines, and none is lost by it", async ({ page, gateway }) => {
  await page.goto(`${gateway.url}/logs`);
  await page.getByText(/, live$/).waitFor();
  await page.getByRole("button", { name: "Pause" }).click();
  await page.getByText(/, paused$/).waitFor();
  await fetch(`${gateway.url}/api/providers/nope-2`);
  await page.getByRole("button", { name: /Go on \(\d+ new\)/ }).waitFor();
  assert.equal(await page.getByTestId("line").filter({ hasText: "nope-2" }).count(), 0);
  await page.getByRole("button", { name: /Go on/ }).click();
  await page.getByTestId("line").filter({ hasText: "nope-2" }).waitFor();
}, DEBUG);

test("after a crash of the process the new one's lines are shown", async ({ page, gateway, allow }) => {
  allow(/Failed to load resource|ERR_|network/i);
  await page.goto(`${gateway.url}/logs`);
  await fetch(`${gateway.url}/api/providers/nope-3`);
  await page.getByTestId("line").filter({ hasText: "nope-3" }).waitFor();
  await gateway.kill();
  await gateway.start();
  await page.getByTestId("line").filter({ hasText: "nope-3" }).waitFor({ state: "detached" });
  await fetch(`${gateway.url}/api/providers/nope-4`);
  await page.getByTestId("line").filter({ hasText: "nope-4" }).waitFor();
}, DEBUG);
