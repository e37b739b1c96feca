import assert from "node:assert/strict";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { look, test, until } from "./fixture.mjs";

const EVIL = `<img src=x onerror="document.title='owned'">`;
const DAY = 86_400;
const challenge = readFileSync(new URL("../fixtures/qwen-web/challenge.html", import.meta.url), "utf8");

/** A site that takes every login, or answers as `site.mood` says. */
async function startSite(t, gateway) {
  const site = { mood: /** @type {"fine" | "refuses" | "challenges"} */ ("fine") };
  const server = createServer(async (request, answer) => {
    for await (const _ of request);
    if (site.mood === "refuses") return answer.writeHead(401, { "content-type": "application/json" }).end("{}");
    if (site.mood === "challenges") return answer.writeHead(200, { "content-type": "text/html" }).end(challenge);
    answer.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify({ success: true, data: { data: [{ id: "qwen3-max", name: "Qwen3-Max" }] } }));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => (server.closeAllConnections(), server.close()));
  await gateway.api("PUT", "/api/settings/qwen.baseUrl", { value: `http://127.0.0.1:${/** @type {any} */ (server.address()).port}` });
  return site;
}

/** A token of that shape, which ends in so many seconds. */
function jwt(user, seconds) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  return `${part({ alg: "HS256" })}.${part({ id: user, exp: Math.floor(Date.now() / 1_000) + seconds })}.c2lnbmF0dXJl`;
}
const account = (page, label) => page.locator(".panel").filter({ has: page.getByRole("heading", { name: new RegExp(`^${label}`) }) });
/** Asks the site through the gateway, so that it learns what the site makes of the login. */
const askSite = (gateway) => fetch(`${gateway.router}/v1/chat/completions`, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ model: "qwen-direct-default/qwen3-max", messages: [{ role: "user", content: "hi" }] }) });

test("a login goes in by each way, and never comes out", async ({ t, page, gateway, allow }) => {
  allow(/status of 4\d\d/);
  const site = await startSite(t, gateway);
  await page.goto(`${gateway.url}/credentials`);
  await page.getByText("No login yet").waitFor();
  await look(page, "credentials-empty");
  const tokens = ["u1", "u2", "u3"].map((user) => jwt(user, 20 * DAY));
  await page.getByRole("button", { name: "Add a login" }).first().click();
  const form = page.getByRole("dialog", { name: "Add a login" });
  const store = form.getByRole("button", { name: "Store and verify" });
  // Copied as cURL; what is no login is refused at its field.
  await form.getByLabel("Copied request").fill("curl https://chat.qwen.ai/");
  await store.click();
  await form.getByText(/holds no login: the token and the cookies cannot be found/).waitFor();
  await look(page, "credentials-login");
  await form.getByLabel("Copied request").fill(`curl 'https://chat.qwen.ai/api/v2/chats/' -H 'authorization: Bearer ${tokens[0]}' -H 'user-agent: Browser/1' -b 'token=${tokens[0]}; isg=1' --compressed`);
  await store.click();
  await page.getByText("The login default is stored, and chat.qwen.ai takes it").waitFor();
  await account(page, "default").getByText("Valid").waitFor();
  // Token and cookies.
  await page.getByRole("button", { name: "Add a login" }).click();
  await form.getByRole("tab", { name: "Token and cookies" }).click();
  await form.getByLabel("Cookie header").fill(`token=${tokens[1]}; tfstk=2`);
  await form.getByLabel("Name").fill("second");
  await store.click();
  await account(page, "second").getByText("Valid").waitFor();
  // JSON, as an extension exports it.
  await page.getByRole("button", { name: "Add a login" }).click();
  await form.getByRole("tab", { name: "JSON" }).click();
  await form.locator("[name=json]").fill("[{");
  await store.click();
  await form.getByText("is no JSON").waitFor();
  await form.locator("[name=json]").fill(JSON.stringify([{ name: "token", value: tokens[2] }, { name: "isg", value: "3", domain: ".qwen.ai" }]));
  await form.getByLabel("Name").fill(EVIL);
  await store.click();
  await page.getByRole("heading", { name: EVIL }).waitFor();
  assert.equal(await page.locator("main img").count(), 0);
  await page.reload();
  await page.getByRole("heading", { name: EVIL }).waitFor();
  const html = await page.content();
  for (const token of tokens) assert.ok(!html.includes(token.slice(8, 40)), "a token is shown");
  // The router uses them once their provider is enabled.
  await page.getByRole("button", { name: "Enable it" }).click();
  await until(async () => (await gateway.api("GET", "/api/providers/qwen-direct-default")).enabled, "the provider is enabled");
  await page.getByText("the router does not use these logins yet").waitFor({ state: "detached" });
  await page.getByRole("button", { name: "Remove second" }).click();
  await page.getByRole("dialog", { name: "Remove the login second?" }).getByRole("button", { name: "Remove", exact: true }).click();
  await account(page, "second").waitFor({ state: "detached" });
  assert.equal((await gateway.api("GET", "/api/qwen/credentials")).accounts.length, 2);
});

test("what becomes of a login is seen at once, and what to do about it", async ({ t, page, gateway }) => {
  const site = await startSite(t, gateway);
  await gateway.api("POST", "/api/providers/qwen-direct-default/enable");
  await page.goto(`${gateway.url}/credentials`);
  await page.getByText("No login yet").waitFor();
  // A second client hands them over.
  await gateway.api("POST", "/api/qwen/credentials", { label: "short", token: jwt("u0", 3_600), cookies: "isg=1" });
  await account(page, "short").getByText("Ends within a day").waitFor();
  await gateway.api("DELETE", "/api/qwen/credentials");
  await gateway.api("POST", "/api/qwen/credentials", { token: jwt("u1", 20 * DAY), cookies: "isg=1" });
  await account(page, "default").getByText("Valid").waitFor();
  site.mood = "refuses";
  await askSite(gateway);
  await account(page, "default").getByText("Refused by the site").waitFor();
  await account(page, "default").getByText("Log in there again").waitFor();
  await account(page, "default").getByRole("button", { name: "Verify" }).click();
  await page.getByText("did not take the login default").waitFor();
  await account(page, "default").getByText("Refused by the site").waitFor();
  site.mood = "fine";
  await account(page, "default").getByRole("button", { name: "Verify" }).click();
  await page.getByText("chat.qwen.ai takes the login default").waitFor();
  await account(page, "default").getByText("Valid").waitFor();
  site.mood = "challenges";
  await askSite(gateway);
  await account(page, "default").getByText("The site wants to see a person").waitFor();
  await account(page, "default").getByText("pass its check, then press Verify").waitFor();
  await look(page, "credentials");
  // Handed over again under the same name.
  site.mood = "fine";
  await account(page, "default").getByRole("button", { name: "Renew" }).click();
  const form = page.getByRole("dialog", { name: "Renew the login default" });
  await form.getByRole("tab", { name: "Token and cookies" }).click();
  await form.getByLabel("Token", { exact: true }).fill(jwt("u1", 25 * DAY));
  await form.getByLabel("Cookie header").fill("isg=2");
  await form.getByRole("button", { name: "Store and verify" }).click();
  await account(page, "default").getByText("Valid").waitFor();
  // The clock alone ends one.
  await gateway.api("POST", "/api/qwen/credentials", { token: jwt("u1", 3), cookies: "isg=1" });
  await account(page, "default").getByText("Expired").waitFor();
  await account(page, "default").getByText("hand the new login over under the same name").waitFor();
});
