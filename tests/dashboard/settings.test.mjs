import assert from "node:assert/strict";
import { look, test, until } from "./fixture.mjs";

/** @param {any} page @param {string} key */
const row = (page, key) => page.locator(`[data-setting="${key}"]`);

test("several are changed at once, in force at once, and reset", async ({ page, gateway }) => {
  await page.goto(`${gateway.url}/settings`);
  const timeout = row(page, "server.timeout");
  await timeout.getByRole("spinbutton", { name: "Upstream timeout" }).fill("90000");
  await timeout.getByText("= 1 min 30 s", { exact: true }).waitFor();
  await row(page, "routing.strategy").getByRole("combobox").selectOption("least_latency");
  await row(page, "system.autoStart").getByText("next start").waitFor();
  await row(page, "system.autoStart").getByRole("switch").click();
  const bar = page.getByRole("region", { name: "Changes that are not saved" });
  await bar.getByText("3 changes not saved").waitFor();
  await look(page, "settings");
  // What is not saved is still there after a look elsewhere.
  await page.getByRole("link", { name: "Statistics", exact: true }).click();
  await page.getByRole("heading", { level: 1, name: "Statistics" }).waitFor();
  await page.getByRole("link", { name: "Settings", exact: true }).click();
  await bar.getByText("3 changes not saved").waitFor();
  await bar.getByRole("button", { name: "Save" }).click();
  await page.getByText("Saved. Part of it counts from the next start on.").waitFor();
  const { settings } = await gateway.api("GET", "/api/settings");
  assert.deepEqual([settings["server.timeout"], settings["routing.strategy"], settings["system.autoStart"]], [90_000, "least_latency", false]);
  await bar.waitFor({ state: "detached" });
  await timeout.getByText(/changed/).waitFor();
  await timeout.getByRole("button", { name: "Reset Upstream timeout to its default" }).click();
  await page.getByText("Upstream timeout is back at its default").waitFor();
  await until(async () => (await timeout.getByRole("spinbutton").inputValue()) === "120000", "the default is shown");
  assert.equal((await gateway.api("GET", "/api/settings/server.timeout")).isDefault, true);
});

test("what is wrong is said at its field, by this page and by the gateway", async ({ page, gateway, allow }) => {
  allow(/status of 4(00|22)/);
  await page.goto(`${gateway.url}/settings`);
  const timeout = row(page, "server.timeout").getByRole("spinbutton");
  await timeout.fill("5");
  await row(page, "server.timeout").getByText("must be a whole number from 1,000 to 600,000").waitFor();
  await page.getByRole("button", { name: "Save" }).click();
  await until(() => timeout.evaluate((input) => document.activeElement === input), "the wrong field has the focus");
  await page.getByRole("button", { name: "Discard" }).click();
  assert.equal(await timeout.inputValue(), "120000");
  // Only the gateway knows what an origin is; all or nothing is stored.
  await row(page, "cors.origins").getByRole("textbox").fill("not an origin");
  await timeout.fill("60000");
  await page.getByRole("button", { name: "Save" }).click();
  const origins = row(page, "cors.origins");
  await origins.locator(".field-error").waitFor();
  assert.equal(await origins.getByRole("textbox").getAttribute("aria-invalid"), "true");
  assert.equal((await gateway.api("GET", "/api/settings/server.timeout")).value, 120_000);
  await look(page, "settings-refused");
  await origins.getByRole("textbox").fill("https://app.example");
  await page.getByRole("button", { name: "Save" }).click();
  await page.getByText("2 settings saved, in force now").waitFor();
});

test("search and what was changed, from the address; another client's change is seen", async ({ page, gateway }) => {
  await page.goto(`${gateway.url}/settings?q=cache`);
  await row(page, "cache.ttl").waitFor();
  assert.equal(await row(page, "server.timeout").count(), 0);
  await page.getByRole("searchbox", { name: "Search settings" }).fill("nothing like it");
  await page.getByText("No setting fits").waitFor();
  await page.goto(`${gateway.url}/settings?changed=1`);
  await gateway.api("PUT", "/api/settings/retention.days", { value: 30 });
  await row(page, "retention.days").waitFor();
  assert.equal(await row(page, "retention.days").getByRole("spinbutton").inputValue(), "30");
  await gateway.api("PUT", "/api/settings/active_model", { value: "<img src=x onerror=window.hit=1>" });
  await row(page, "active_model").waitFor();
  assert.equal(await page.evaluate(() => window.hit), undefined);
});

test("the admin token: made and shown once, replaced, set by hand, forgotten", async ({ page, gateway, newPage, allow }) => {
  allow(/status of (400|401|403)/);
  await page.goto(`${gateway.url}/settings?q=token`);
  const token = row(page, "auth.adminToken");
  await token.getByText("not set").waitFor();
  await token.getByRole("button", { name: "Make a token" }).click();
  const made = page.getByRole("dialog", { name: "The new admin token" });
  const first = String(await made.getByRole("group", { name: "Admin token" }).textContent());
  assert.match(first, /^qwa-/);
  await look(page, "settings-token");
  await made.getByRole("button", { name: "I have kept it" }).click();
  await token.getByText("you are logged in").waitFor();
  assert.ok(!(await page.content()).includes(first), "it is not in the page any more");
  // A browser that does not have it must log in before it changes it.
  await token.getByRole("button", { name: "Log out" }).click();
  await token.getByText("you are not logged in").waitFor();
  await token.getByRole("button", { name: "Forget it" }).click();
  const login = page.getByRole("dialog", { name: "Log in first" });
  await login.getByLabel("Current token").fill("wrong");
  await login.getByRole("button", { name: "Log in" }).click();
  await login.locator(".field-error").waitFor();
  await login.getByLabel("Current token").fill(first);
  await login.getByRole("button", { name: "Log in" }).click();
  await token.getByText("you are logged in").waitFor();
  // One's own.
  await token.getByRole("button", { name: "Set your own" }).click();
  const own = page.getByRole("dialog", { name: "Set your own admin token" });
  await own.getByLabel("New token").fill("short");
  await own.getByRole("button", { name: "Set it" }).click();
  await own.getByText(/must be 32 to 200 printable/).waitFor();
  const second = "correct-horse-battery-staple-and-more";
  await own.getByLabel("New token").fill(second);
  await own.getByRole("button", { name: "Set it" }).click();
  await page.getByText("The admin token is set").waitFor();
  await token.getByText("you are logged in").waitFor();
  const refused = await fetch(`${gateway.url}/api/auth/login`, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ token: first }) });
  assert.equal(refused.status, 401);
  await token.getByRole("button", { name: "Forget it" }).click();
  await page.getByRole("dialog", { name: "Forget the admin token?" }).getByRole("button", { name: "Forget it" }).click();
  await page.getByText("The admin token is forgotten").waitFor();
  await token.getByText("not set").waitFor();
});
