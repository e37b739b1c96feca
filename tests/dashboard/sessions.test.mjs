import assert from "node:assert/strict";
import { look, test, until } from "./fixture.mjs";
import { logIn, startSite } from "./site.mjs";

/** With a site that the gateway is logged in to. @param {(all: any) => Promise<void>} run */
const withSite = (run) => async (all) => {
  const site = await startSite();
  try {
    await logIn(all.gateway, site);
    const { port } = (await all.gateway.api("GET", "/api/proxy/status")).qwenProxy;
    const ask = async (...messages) => {
      const body = { model: "qwen3-max", messages: messages.map((content, at) => ({ role: at % 2 ? "assistant" : "user", content })) };
      const answer = await fetch(`http://127.0.0.1:${port}/v1/chat/completions`, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });
      const text = await answer.text();
      assert.equal(answer.status, 200, text);
      return JSON.parse(text).choices[0].message.content;
    };
    await run({ ...all, site, ask });
  } finally {
    site.close();
  }
};

test("without a login there is a way on", async ({ page, gateway }) => {
  await page.goto(`${gateway.url}/sessions`);
  await page.getByText("No sessions yet").waitFor();
  await page.getByRole("main").getByRole("link", { name: "Log in to Qwen" }).waitFor();
  await look(page, "sessions-empty");
});

test("a conversation of another client appears, and what it says stays text", withSite(async ({ page, gateway, ask }) => {
  await page.goto(`${gateway.url}/sessions`);
  await page.getByText("No sessions yet").waitFor();
  const payload = `<img src=x onerror="window.hit=1"> why is the sky blue?`;
  const first = await ask(payload);
  await ask("And how do tides work?");
  const row = page.getByRole("row").filter({ hasText: "why is the sky blue?" });
  await row.getByText("can go on").waitFor();
  await look(page, "sessions");
  await row.getByRole("link").click();
  await page.waitForURL(/\/sessions\/.+/);
  await page.getByText("chat-1", { exact: true }).waitFor();
  const requests = page.getByRole("table", { name: /Requests of this session/ });
  await requests.getByText("Completed").waitFor();
  assert.equal(await requests.locator("tbody tr").count(), 1);
  // It goes on elsewhere, and is seen here.
  await ask(payload, first, "And at sunset?");
  await requests.getByText("And at sunset?").waitFor();
  assert.equal(await requests.locator("tbody tr").count(), 2);
  assert.match(String(await page.getByRole("link", { name: /Open at the site/ }).getAttribute("href")), /\/c\/chat-1$/);
  assert.equal(await page.locator("main img").count(), 0);
  assert.equal(await page.evaluate(() => window.hit), undefined);
  await look(page, "session");
}));

test("a session is deleted, and its chat where the setting says so", withSite(async ({ page, gateway, site, ask }) => {
  await ask("One");
  await ask("Two");
  await page.goto(`${gateway.url}/sessions`);
  const open = (/** @type {string} */ text) => page.getByRole("link", { name: text, exact: true }).click();
  await open("One");
  await page.getByRole("button", { name: "Delete", exact: true }).click();
  let dialog = page.getByRole("dialog", { name: "Delete this session?" });
  await dialog.getByText("stays in your list of chats there").waitFor();
  await dialog.getByRole("button", { name: "Delete" }).click();
  await page.getByText("The session is deleted").waitFor();
  await page.getByRole("link", { name: "One", exact: true }).waitFor({ state: "detached" });
  await gateway.api("PUT", "/api/settings/qwen.deleteChats", { value: true });
  await open("Two");
  await page.getByRole("button", { name: "Delete", exact: true }).click();
  dialog = page.getByRole("dialog", { name: "Delete this session?" });
  await dialog.getByText("at the site is deleted, too").waitFor();
  await dialog.getByRole("button", { name: "Delete" }).click();
  await page.getByText("No sessions yet").waitFor();
  await until(() => site.deleted.length > 0, "the chat is deleted at the site");
  assert.deepEqual(site.deleted, ["chat-3"]);
}));

test("filters are in the address, and one that is gone says so", withSite(async ({ page, gateway, ask, allow }) => {
  allow(/status of 404/);
  await ask("One");
  await page.goto(`${gateway.url}/sessions`);
  await page.getByLabel("State").selectOption("expired");
  await page.waitForURL(/state=expired/);
  await page.getByText("No session fits").waitFor();
  await page.getByRole("button", { name: "Show all" }).click();
  await page.getByRole("link", { name: "One", exact: true }).waitFor();
  await page.goto(`${gateway.url}/sessions/nope`);
  await page.getByText("There is no such session").waitFor();
}));
