import assert from "node:assert/strict";
import { look, test, until } from "./fixture.mjs";

const wayBroken = /ERR_CONNECTION_REFUSED|ERR_INCOMPLETE_CHUNKED|ERR_EMPTY_RESPONSE|ERR_CONNECTION_RESET|Failed to load resource/;

test("the gateway is stopped and started, and a second window sees it", async ({ page, gateway, newPage }) => {
  await page.goto(gateway.url);
  const other = await newPage();
  await other.goto(`${gateway.url}/supervision`);
  for (const one of [page, other]) await one.getByTestId("gateway").filter({ hasText: /^Running$/ }).waitFor();
  await page.getByRole("button", { name: "Stop the gateway" }).click();
  const dialog = page.getByRole("dialog", { name: "Stop the gateway?" });
  await dialog.getByRole("button", { name: "Cancel" }).click();
  assert.equal((await gateway.chat("still there?")).status, 200);
  await page.getByRole("button", { name: "Stop the gateway" }).click();
  await dialog.getByRole("button", { name: "Stop" }).click();
  for (const one of [page, other]) {
    await one.getByTestId("gateway").filter({ hasText: /^Stopped$/ }).waitFor();
    await one.getByTestId("stopped").waitFor();
  }
  assert.equal((await gateway.api("GET", "/api/proxy/status")).status, "stopped");
  await assert.rejects(gateway.chat("nobody there"));
  await other.getByRole("button", { name: "Start it" }).click();
  for (const one of [page, other]) {
    await one.getByTestId("gateway").filter({ hasText: /^Running$/ }).waitFor();
    await one.getByTestId("stopped").waitFor({ state: "detached" });
  }
  assert.equal((await gateway.api("GET", "/api/proxy/status")).status, "running");
});

test("a lost connection is said, and regained by itself", async ({ page, gateway, allow }) => {
  allow(wayBroken);
  await page.goto(`${gateway.url}/supervision`);
  await page.getByText("root", { exact: true }).waitFor();
  await page.evaluate(() => (window.isSame = true));
  await gateway.kill();
  await page.getByTestId("lost").waitFor();
  await page.getByTestId("gateway").filter({ hasText: "Not reached" }).waitFor();
  await gateway.start();
  await page.getByTestId("lost").waitFor({ state: "detached" });
  await page.getByTestId("gateway").filter({ hasText: "Running" }).waitFor();
  assert.equal(await page.evaluate(() => window.isSame), true, "without loading the page again");
  // What happens after that is seen, so the stream is a live one.
  await gateway.api("POST", "/api/fault/crash/router");
  await page.getByTestId("restarts").filter({ hasText: /^1$/ }).waitFor();
});

test("everything can be reached with the keyboard alone", async ({ page, gateway }) => {
  await page.goto(gateway.url);
  await page.getByRole("heading", { name: "Home" }).waitFor();
  const focused = () => page.evaluate(() => document.activeElement?.getAttribute("aria-label") ?? document.activeElement?.textContent?.trim());
  const tabTo = async (name) => {
    for (let step = 0; step < 80; step += 1) {
      await page.keyboard.press("Tab");
      const now = await focused();
      if (now === name) {
        const ring = await page.evaluate(() => getComputedStyle(/** @type {Element} */ (document.activeElement)).outlineStyle);
        assert.notEqual(ring, "none", `${name} shows that it has the focus`);
        return;
      }
    }
    throw new Error(`no Tab leads to ${name}`);
  };
  await page.keyboard.press("Tab");
  assert.equal(await focused(), "Skip to the content");
  await page.keyboard.press("Enter");
  assert.equal(await page.evaluate(() => document.activeElement?.id), "main");
  await page.goto(gateway.url);
  await tabTo("Supervision");
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { level: 1, name: "Supervision" }).waitFor();
  await page.getByText("retention", { exact: true }).first().waitFor();
  await tabTo("Restart retention");
  await page.keyboard.press("Enter");
  const dialog = page.getByRole("dialog", { name: "Restart retention?" });
  await dialog.waitFor();
  await page.keyboard.press("Escape");
  await dialog.waitFor({ state: "detached" });
  assert.equal(await focused(), "Restart retention", "the focus is given back");
  await page.keyboard.press("Enter");
  await dialog.waitFor();
  await tabTo("Restart");
  await page.keyboard.press("Enter");
  await page.getByText("retention was restarted").waitFor();
  // And the palette, from anywhere.
  await page.keyboard.press("Control+k");
  await page.keyboard.type("home");
  await page.getByRole("option", { name: /^Home/ }).waitFor();
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { level: 1, name: "Home" }).waitFor();
  await page.keyboard.press("Control+k");
  await page.keyboard.type("no such thing");
  await page.getByText("Nothing has that name.").waitFor();
  await page.keyboard.press("Escape");
  await page.getByRole("dialog").waitFor({ state: "detached" });
});

test("the first load is small and soon ready", async ({ page, gateway, context }) => {
  const session = await context.newCDPSession(page);
  await session.send("Network.enable");
  const files = new Map();
  let total = 0;
  session.on("Network.responseReceived", ({ requestId, response }) => files.set(requestId, response.url));
  session.on("Network.loadingFinished", ({ requestId, encodedDataLength }) => {
    if (!files.get(requestId)?.includes("/api/")) total += encodedDataLength;
  });
  await page.goto(gateway.url);
  await page.locator(".chart canvas").first().waitFor();
  const ready = await page.evaluate(() => performance.getEntriesByName("qwarden-interactive")[0].startTime);
  console.log(`first load: ${files.size} answers, ${Math.round(total / 1000)} kB, interactive after ${Math.round(ready)} ms`);
  // The files on the disk are not packed.
  assert.ok(process.env.DASHBOARD_DEV || (total > 10_000 && total < 200_000), `${total} bytes`);
  // The aim is 300 ms on an idle machine; a busy one must not fail the test.
  assert.ok(ready < 3_000, `${ready} ms`);
});

test("the theme is chosen, kept, and follows the system", async ({ page, gateway }) => {
  await page.goto(gateway.url);
  const shown = () => page.evaluate(() => document.documentElement.dataset.theme);
  await page.getByRole("button", { name: "Theme: auto" }).waitFor();
  assert.equal(await shown(), "light");
  await page.emulateMedia({ colorScheme: "dark" });
  await until(async () => (await shown()) === "dark", "it follows the system");
  await page.getByRole("button", { name: "Theme: auto" }).click();
  assert.equal(await shown(), "light");
  await page.reload();
  await page.getByRole("button", { name: "Theme: light" }).waitFor();
  assert.equal(await shown(), "light");
});

test("where the admin token is wanted, there is a form for it", async ({ page, gateway, allow }) => {
  allow(/status of 401/);
  const { token } = await gateway.api("POST", "/api/auth/token");
  await gateway.api("PUT", "/api/settings/auth.required", { value: "always" }, { authorization: `Bearer ${token}` });
  await page.goto(`${gateway.url}/supervision`);
  await page.getByRole("heading", { name: "Log in" }).waitFor();
  await look(page, "login");
  await page.getByLabel("Admin token").fill("wrong");
  await page.getByRole("button", { name: "Log in" }).click();
  await page.getByText("this is not the admin token").waitFor();
  await page.getByLabel("Admin token").fill(token);
  await page.getByRole("button", { name: "Log in" }).click();
  await page.getByRole("heading", { level: 1, name: "Supervision" }).waitFor();
  await page.getByText("root", { exact: true }).waitFor();
  await page.reload();
  await page.getByText("root", { exact: true }).waitFor();
});

test("a path without a page, and a page that cannot be loaded, say what to do", async ({ page, gateway, context, allow }) => {
  allow(/ERR_FAILED/);
  await page.goto(gateway.url);
  await page.getByRole("heading", { level: 1, name: "Home" }).waitFor();
  await page.evaluate(() => {
    history.pushState(null, "", "/nowhere");
    dispatchEvent(new PopStateEvent("popstate"));
  });
  await page.getByText("There is nothing here").waitFor();
  await context.route("**/pages/supervision.js", (route) => route.abort());
  await page.getByRole("link", { name: "Supervision" }).click();
  await page.getByText("This page did not load").waitFor();
  await context.unroute("**/pages/supervision.js");
  await page.getByRole("button", { name: "Reload" }).click();
  await page.getByText("root", { exact: true }).waitFor();
});

test("on a phone the pages are behind a button", async ({ page, gateway }) => {
  await page.setViewportSize({ width: 360, height: 740 });
  await page.goto(gateway.url);
  await page.getByRole("heading", { level: 1, name: "Home" }).waitFor();
  const link = page.getByRole("link", { name: "Supervision" });
  assert.equal(await link.isVisible(), false);
  await page.getByRole("button", { name: "Pages" }).click();
  await link.click();
  await page.getByRole("heading", { level: 1, name: "Supervision" }).waitFor();
  await link.waitFor({ state: "hidden" });
});
