import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import { look, test, until } from "./fixture.mjs";

const NASTY = '<img src=x onerror="window.hit=1"><script>window.hit=2</script>';

/** Sends a chat and gives its id. @param {any} gateway @param {any} body @param {Record<string, string>} [headers] */
async function ask(gateway, body, headers = {}) {
  const answer = await fetch(`${gateway.router}/v1/chat/completions`, { method: "POST", headers: { "content-type": "application/json", ...headers }, body: JSON.stringify({ model: "fake-1", ...body }) });
  const id = String(answer.headers.get("x-request-id")).replace(/^req_/, "");
  await answer.text();
  await until(async () => (await gateway.api("GET", `/api/requests/${id}`).catch(() => null))?.response, `the answer of ${id} is stored`);
  return id;
}

const say = (content) => ({ messages: [{ role: "user", content }] });

test("the list is live, can be held, and shows one request and the way back", async ({ page, gateway, upstream }) => {
  await page.goto(`${gateway.url}/requests`);
  await page.getByText("No requests yet").waitFor();
  await look(page, "requests-empty");
  upstream.say = (body) => (/fail/.test(body.messages.at(-1).content) ? { status: 400, text: `refused ${NASTY}` } : { text: "The capital is **Paris**." });
  const list = page.getByRole("listbox", { name: "Requests" });
  await gateway.chat("What is the capital of France?");
  await list.getByRole("option").filter({ hasText: "Completed" }).first().waitFor();
  await gateway.chat("fail now", { stream: true });
  await list.getByRole("option").filter({ hasText: "Failed" }).filter({ hasText: "refused <img" }).waitFor();
  await page.getByTestId("total").filter({ hasText: "2 requests" }).waitFor();
  await page.getByRole("button", { name: "Pause" }).click();
  await gateway.chat("a third");
  await page.getByRole("button", { name: "Show 1 new" }).waitFor();
  assert.equal(await list.getByRole("option").count(), 2, "held");
  await page.getByRole("button", { name: "Show 1 new" }).click();
  await page.getByTestId("total").filter({ hasText: "3 requests" }).waitFor();
  await look(page, "requests");

  await list.focus();
  for (let times = 0; times < 3; times += 1) await page.keyboard.press("ArrowDown");
  await page.keyboard.press("Enter");
  await page.waitForURL(/\/requests\/[0-9a-f-]{36}/);
  const conversation = page.getByTestId("conversation");
  await conversation.getByText("What is the capital of France?").waitFor();
  await conversation.locator("strong").filter({ hasText: "Paris" }).waitFor();
  await page.getByRole("link", { name: "Back to the list" }).click();
  await until(() => page.evaluate(() => document.activeElement?.getAttribute("role") === "listbox"), "the list has the focus again");
  assert.equal(await page.evaluate(() => window.hit), undefined);
});

test("filters and search are in the address", async ({ page, gateway, upstream, allow }) => {
  upstream.say = (body) => (body.model === "fake-2" ? { status: 400, text: "no" } : "A whale is a mammal.");
  await ask(gateway, { ...say("Tell me about whales"), stream: true }, { "x-qwarden-tags": "team=sea" });
  await ask(gateway, say("Tell me about volcanoes"));
  await ask(gateway, { ...say("Anything"), model: "fake-2" });
  await page.goto(`${gateway.url}/requests`);
  const total = (text) => page.getByTestId("total").filter({ hasText: text }).waitFor();
  await total("3 requests");
  await page.getByLabel("Status").selectOption("failed");
  await total(/^1 request$/);
  await page.waitForURL(/status=failed/);
  await page.reload();
  await total(/^1 request$/);
  assert.equal(await page.getByLabel("Status").inputValue(), "failed");
  await page.getByRole("button", { name: "Clear" }).click();
  await total("3 requests");
  await page.getByLabel("Search in what was said").fill("volcan*");
  await page.getByText("about volcanoes").waitFor();
  await total(/^1 request$/);
  assert.equal(await page.locator("mark").first().textContent(), "volcan");
  await look(page, "requests-search");
  await page.getByRole("button", { name: "Clear" }).click();
  await page.getByLabel("Answer").selectOption("true");
  await total(/^1 request$/);
  await page.getByRole("listbox", { name: "Requests" }).getByRole("option").first().click();
  await page.getByRole("link", { name: "team=sea" }).click();
  await page.waitForURL(/\/requests\?tag=team/);
  await total(/^1 request$/);
  await page.getByRole("button", { name: "Remove the filter Tag" }).click();
  await total("3 requests");
  allow(/status of 400/);
  await page.getByLabel("Search in what was said").fill('"*"');
  await page.getByText(/must have a letter or a digit/).first().waitFor();
});

test("a request in all its parts: nothing that was said becomes markup", async ({ page, gateway, upstream }) => {
  upstream.say = (body) =>
    body.messages.length > 1 ? { text: `Sunny ${NASTY}`, thinking: `I think ${NASTY}` } : { tools: [{ name: `weather${NASTY}`, arguments: { city: NASTY } }] };
  await ask(gateway, { messages: [
    { role: "user", content: [{ type: "text", text: NASTY }, { type: "image_url", image_url: { url: "https://tracker.example/p.png" } }, { type: "image_url", image_url: { url: `data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==` } }] },
    { role: "assistant", content: null, tool_calls: [{ id: "c1", type: "function", function: { name: "weather", arguments: JSON.stringify({ city: NASTY }) } }] },
    { role: "tool", tool_call_id: "c1", content: NASTY },
  ] });
  await page.goto(`${gateway.url}/requests`);
  await page.getByRole("listbox", { name: "Requests" }).getByRole("option").first().click();
  const conversation = page.getByTestId("conversation");
  await conversation.getByText("Sunny <img").waitFor();
  await conversation.getByText("Tool call").waitFor();
  await conversation.getByText("I think").waitFor({ state: "attached" });
  assert.equal(await conversation.locator("img").count(), 1, "the picture that came along; the other one is a link");
  assert.equal(await conversation.locator("img").getAttribute("alt"), "Attached");
  await look(page, "request-conversation");
  await page.getByRole("tab", { name: "Raw" }).click();
  await page.getByLabel("Document", { exact: true }).selectOption("response");
  await page.getByRole("group", { name: "Content" }).filter({ hasText: "reasoning_content" }).waitFor();
  await page.waitForURL(/tab=raw&document=response/);
  await look(page, "request-raw");
  assert.equal(await page.evaluate(() => window.hit), undefined);
});

test("where an answer broke off and another provider went on there is a seam", async ({ page, gateway, upstream }) => {
  const words = Array.from({ length: 80 }, (_, at) => `word${at} `);
  const shaky = createServer((request, answer) => {
    if (request.method === "GET") return void answer.writeHead(200, { "content-type": "application/json" }).end('{"object":"list","data":[{"id":"fake-1","object":"model"}]}');
    answer.writeHead(200, { "content-type": "text/event-stream" });
    const chunk = { id: "chatcmpl-1", object: "chat.completion.chunk", created: 1, model: "fake-1", choices: [{ index: 0, delta: { role: "assistant", content: words.slice(0, 40).join("") }, finish_reason: null }] };
    answer.write(`data: ${JSON.stringify(chunk)}\n\n`, () => setTimeout(() => answer.destroy(), 50));
  }).listen(0, "127.0.0.1");
  await once(shaky, "listening");
  try {
    const baseURL = `http://127.0.0.1:${/** @type {any} */ (shaky.address()).port}/v1`;
    await gateway.api("POST", "/api/providers", { id: "shaky", name: "Shaky", type: "openai", enabled: true, priority: 100, config: { baseURL, apiKey: "sk-shaky" } });
    upstream.say = () => ({ text: words.slice(40).join("") });
    const id = await ask(gateway, { ...say("Count"), stream: true });
    await page.goto(`${gateway.url}/requests/${id}`);
    const conversation = page.getByTestId("conversation");
    await conversation.getByText("fake goes on from here").waitFor();
    await conversation.getByText(/word39\s*$/).waitFor();
    await conversation.getByText(/^word40 /).waitFor();
    await page.getByRole("tab", { name: "Timing" }).click();
    await page.getByText(`fake goes on after ${words.slice(0, 40).join("").length} characters`).waitFor();
    await look(page, "request-seam");
  } finally {
    shaky.closeAllConnections();
    shaky.close();
  }
});

test("attempts are a waterfall", async ({ page, gateway, upstream }) => {
  let count = 0;
  upstream.say = async () => {
    count += 1;
    return count < 3 ? { status: 503, text: "overloaded" } : { text: "At last.", pause: 30, chunks: ["At ", "last."] };
  };
  const id = await ask(gateway, { ...say("hello"), stream: true }, { "x-qwarden-record": "true" });
  await page.goto(`${gateway.url}/requests/${id}?tab=timing`);
  const table = page.getByRole("table", { name: "Attempts" });
  await table.getByRole("row").nth(3).getByText("Succeeded").waitFor();
  assert.equal(await table.getByText("overloaded").locator("visible=true").count(), 2);
  assert.equal(await page.locator(".waterfall .bar-failed").count(), 2);
  await page.locator(".waterfall .bar-headers").first().waitFor();
  await page.getByRole("table", { name: "Route plan" }).waitFor();
  await look(page, "request-timing");
});

test("a recorded stream plays at its own pace", async ({ page, gateway, upstream }) => {
  upstream.say = () => ({ thinking: "Let me see.", text: "x", chunks: ["One", ", two", ", three", " and four."], pause: 300 });
  const recorded = await ask(gateway, { ...say("count"), stream: true }, { "x-qwarden-record": "true" });
  const plain = await ask(gateway, { ...say("count"), stream: true });
  await page.goto(`${gateway.url}/requests/${recorded}?tab=stream`);
  const box = page.getByTestId("playback");
  await box.getByText("One, two, three and four.").waitFor();
  await page.getByLabel("Speed").selectOption("0.5");
  const began = Date.now();
  await page.getByRole("button", { name: "Play", exact: true }).click();
  await box.getByText("One", { exact: true }).waitFor();
  await box.getByText("One, two, three and four.").waitFor();
  assert.ok(Date.now() - began > 1_500, "900 ms and more at half the speed");
  await page.getByRole("button", { name: "Play", exact: true }).waitFor();
  await page.getByRole("slider").fill("0");
  await box.getByText("Nothing yet").waitFor();
  await page.getByRole("slider").fill("100000");
  await look(page, "request-stream");
  await page.goto(`${gateway.url}/requests/${plain}?tab=stream`);
  await page.getByText("was not recorded").waitFor();
  await box.getByText("One, two, three and four.").waitFor();
});

test("it is sent to another model, copied as curl, and deleted after a question", async ({ page, gateway, upstream, allow }) => {
  allow(/status of 404/);
  upstream.say = (body) => `${body.model} says hi`;
  const id = await ask(gateway, say("Who are you?"));
  await page.goto(`${gateway.url}/requests/${id}`);
  await page.getByRole("button", { name: "Copy as curl" }).click();
  await until(async () => /^curl .*Who are you/s.test(await page.evaluate(() => navigator.clipboard.readText())), "the command is in the clipboard");
  await page.getByRole("button", { name: "Replay" }).click();
  const picker = page.getByRole("combobox", { name: "Send it again to" });
  await picker.fill("fake-2");
  await page.getByRole("option", { name: /^fake-2/ }).click();
  await page.getByRole("tabpanel").getByRole("button", { name: "Replay" }).click();
  const compare = page.getByTestId("compare");
  await compare.getByText("fake-2 says hi").waitFor();
  await compare.getByText("fake-1 says hi").waitFor();
  await page.waitForURL(/with=/);
  await look(page, "request-replay");
  await page.getByRole("button", { name: "Delete" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Delete" }).click();
  await page.getByText("The request is deleted").waitFor();
  await page.getByTestId("total").filter({ hasText: /^1 request$/ }).waitFor();
  // Another client deletes what is looked at.
  await page.getByRole("listbox", { name: "Requests" }).getByRole("option").first().click();
  await page.waitForURL(/\/requests\/[0-9a-f-]{36}/);
  await page.getByTestId("conversation").getByText("fake-2 says hi").waitFor();
  const other = new URL(page.url()).pathname.split("/").at(-1);
  await gateway.api("DELETE", `/api/requests/${other}`);
  await page.getByText("This request was deleted").waitFor();
});
