import assert from "node:assert/strict";
import { look, test, until } from "./fixture.mjs";

const EVIL = `<img src=x onerror="document.title='owned'">`;

/** What a client with a key asks. */
const asked = (gateway, key) => fetch(`${gateway.router}/v1/chat/completions`, { method: "POST", headers: { "content-type": "application/json", authorization: `Bearer ${key}` }, body: JSON.stringify({ model: "fake-1", messages: [{ role: "user", content: "hi" }] }) });
const always = (gateway) => gateway.api("PUT", "/api/settings/auth.requireKeys", { value: "always" });

test("a key is shown once, works, and its use is seen as it happens", async ({ page, gateway }) => {
  await always(gateway);
  await page.goto(`${gateway.url}/keys`);
  await page.getByText("Every client needs a key.").waitFor();
  await page.getByText("No keys yet").waitFor();
  await page.getByRole("button", { name: "Make a key" }).first().click();
  const form = page.getByRole("dialog", { name: "Make a key" });
  await form.getByLabel("Name").fill("laptop");
  await form.getByLabel("Allowed models").fill("fake-1\nfake/*");
  await form.getByLabel("Tokens a day").fill("24");
  await look(page, "keys-form");
  await form.getByRole("button", { name: "Make it" }).click();
  const shown = page.getByRole("dialog", { name: "The key laptop" });
  const key = (await shown.getByTestId("made-key").locator("code").textContent()) ?? "";
  assert.match(key, /^qw-/);
  await shown.getByText(`authorization: Bearer ${key}`).waitFor();
  await look(page, "keys-made");
  // It cannot be lost by a slip.
  await page.keyboard.press("Escape");
  await page.getByRole("dialog", { name: "Is it kept somewhere?" }).getByRole("button", { name: "Cancel" }).click();
  await shown.getByRole("button", { name: "Copy the key" }).click();
  await shown.getByText("Copied.").waitFor();
  assert.equal(await page.evaluate(() => navigator.clipboard.readText()), key);
  await shown.getByRole("button", { name: "Close", exact: true }).last().click();
  await shown.waitFor({ state: "detached" });
  assert.ok(!(await page.content()).includes(key), "it is shown once");
  const row = page.getByRole("row").filter({ hasText: "laptop" });
  await row.getByText("0 of 24 tokens today").waitFor();
  assert.equal((await asked(gateway, key)).status, 200);
  await row.getByText("12 of 24 tokens today").waitFor();
  assert.equal((await asked(gateway, key)).status, 200);
  await row.getByText("Budget used up").locator("visible=true").waitFor();
  assert.equal((await asked(gateway, key)).status, 429);
  await look(page, "keys");
});

test("a key is changed without overwriting others, disabled and revoked", async ({ page, gateway, allow }) => {
  allow(/status of 412/);
  await always(gateway);
  const made = await gateway.api("POST", "/api/keys", { name: "ci", rate_per_minute: 60, tokens_per_month: 5000 });
  await page.goto(`${gateway.url}/keys?key=${made.id}`);
  const form = page.getByRole("dialog", { name: "Edit ci" });
  await form.getByLabel("Requests per minute").fill("30");
  await form.getByLabel("Tokens a month").fill("");
  await form.getByLabel("Last day").fill("2999-12-31");
  await gateway.api("PUT", `/api/keys/${made.id}`, { name: "ci two" });
  await form.getByRole("button", { name: "Save", exact: true }).click();
  await form.getByText("Somebody changed it while you did").waitFor();
  await look(page, "keys-conflict");
  await form.getByRole("button", { name: "Save mine all the same" }).click();
  await page.getByText("ci is saved").waitFor();
  const stored = await gateway.api("GET", `/api/keys/${made.id}`);
  assert.deepEqual([stored.name, stored.rate_per_minute, stored.tokens_per_month, new Date(stored.expires_at).getFullYear()], ["ci", 30, null, 2999]);
  const row = page.getByRole("row").filter({ hasText: "ci" });
  await row.getByRole("button", { name: "Disable ci" }).click();
  await row.getByText("Disabled").locator("visible=true").waitFor();
  assert.equal((await asked(gateway, made.key)).status, 401);
  await row.getByRole("button", { name: "Enable ci" }).click();
  await until(async () => (await asked(gateway, made.key)).status === 200, "it serves again");
  await row.getByRole("button", { name: "Revoke ci" }).click();
  await page.getByRole("dialog", { name: "Revoke ci?" }).getByRole("button", { name: "Revoke" }).click();
  await page.getByText("ci is revoked").waitFor();
  await page.getByText("No keys yet").waitFor();
  assert.equal((await asked(gateway, made.key)).status, 401);
});

test("keys of other clients appear, their names as text; what is refused stands at its field", async ({ page, gateway, allow }) => {
  allow(/status of 400/);
  await page.goto(`${gateway.url}/keys`);
  await page.getByText("No keys yet").waitFor();
  await gateway.api("POST", "/api/keys", { name: EVIL, allowed_models: [EVIL] });
  await page.getByRole("row").filter({ hasText: EVIL }).getByRole("button", { name: EVIL, exact: true }).click();
  const form = page.getByRole("dialog");
  await form.getByLabel("Name").fill("");
  await form.getByRole("button", { name: "Save", exact: true }).click();
  await form.locator("[name=name][aria-invalid=true]").waitFor();
  assert.equal(await page.locator("main img").count(), 0);
  assert.match(await page.title(), /^Keys/);
});
