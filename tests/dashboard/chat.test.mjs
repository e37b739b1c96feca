import assert from "node:assert/strict";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { look, test, until } from "./fixture.mjs";

const NASTY = '<img src=x onerror="window.hit=1"><script>window.hit=2</script>';
const picture = join(fileURLToPath(new URL("../../dashboard/icons/", import.meta.url)), "icon-192.png");

/** @param {any} page @param {string} text */
async function ask(page, text) {
  await page.getByRole("textbox", { name: "Message" }).fill(text);
  await page.keyboard.press("Enter");
}

/** @param {any} page @param {string} words @param {string} name */
async function choose(page, words, name) {
  const picker = page.getByRole("combobox", { name: "Model" });
  await picker.fill(words);
  await page.getByRole("option", { name, exact: false }).first().waitFor();
  await page.keyboard.press("Enter");
  await until(async () => (await picker.inputValue()) === name, `${name} is chosen`);
}

test("an answer appears as it comes: thinking apart, timings, tokens, and it stays in this tab", async ({ page, gateway, upstream }) => {
  let go;
  const held = new Promise((resolve) => (go = resolve));
  upstream.say = async () => ({ thinking: `Hm. ${NASTY}`, chunks: (async function* () {
    yield "The **answer** is ";
    await held;
    yield `42. ${NASTY}\n\n| a | b |\n|---|---|\n| 1 | 2 |`;
  })() });
  await page.goto(`${gateway.url}/chat`);
  await look(page, "chat-empty");
  await choose(page, "fake 1", "fake-1");
  await page.getByLabel("System prompt").fill("Be short.");
  await page.getByLabel("Temperature").fill("0.5");
  await ask(page, "What is it?");
  const turns = page.getByTestId("turns");
  await turns.locator("strong").filter({ hasText: "answer" }).waitFor();
  await turns.getByText("Hm. <img").waitFor({ state: "attached" });
  await page.getByRole("button", { name: "Stop" }).nth(1).waitFor();
  go();
  await turns.getByRole("cell", { name: "2" }).waitFor();
  const facts = page.getByTestId("facts");
  await facts.getByText("7 in, 5 out").waitFor();
  await facts.getByText("First token").waitFor();
  await facts.getByText("tokens/s").waitFor();
  const sent = upstream.asked.at(-1);
  assert.deepEqual([sent.model, sent.temperature, sent.stream, sent.messages], ["fake-1", 0.5, true, [{ role: "system", content: "Be short." }, { role: "user", content: "What is it?" }]]);
  assert.equal(await turns.locator("img, script").count(), 0);
  await look(page, "chat");
  await page.getByRole("button", { name: "Copy as curl" }).click();
  await until(async () => /^curl -N http:\/\/127\.0\.0\.1:\d+\/v1\/chat\/completions[\s\S]*Be short/.test(await page.evaluate(() => navigator.clipboard.readText())), "the command is in the clipboard");
  await page.reload();
  await turns.getByText("What is it?").waitFor();
  await facts.getByText("7 in, 5 out").waitFor();
  assert.equal(await page.getByRole("combobox", { name: "Model" }).inputValue(), "fake-1");
  await facts.getByRole("link", { name: "Details" }).click();
  await page.getByTestId("conversation").getByText("What is it?").waitFor();
  await page.goBack();
  await page.getByRole("button", { name: "New conversation" }).click();
  await page.getByText("Ask something", { exact: true }).waitFor();
  assert.equal(await page.evaluate(() => window.hit), undefined);
});

test("stopping ends the upstream too, and keeps what came", async ({ page, gateway, upstream }) => {
  let ended = false;
  upstream.say = () => ({ chunks: (async function* () {
    try {
      for (let count = 0; ; count += 1) {
        yield `word${count} `;
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    } finally {
      ended = true;
    }
  })() });
  await page.goto(`${gateway.url}/chat?model=fake-1`);
  await ask(page, "go on");
  await page.getByText("word3").waitFor();
  await page.keyboard.press("Escape");
  await page.getByText("Stopped.").waitFor();
  await page.getByText("word0").waitFor();
  await until(() => ended, "the upstream has stopped");
  await until(async () => (await gateway.api("GET", "/api/requests?status=client_closed")).total === 1, "the history says so");
});

test("tools: declared, called, answered by the user, and gone on with", async ({ page, gateway, upstream }) => {
  upstream.say = (body) => {
    const last = body.messages.at(-1);
    return last.role === "tool" ? { text: `It is ${JSON.parse(last.content).sky} there.` } : { tools: [{ name: "get_weather", arguments: { city: NASTY } }] };
  };
  await page.goto(`${gateway.url}/chat?model=fake-1`);
  await page.getByLabel("Tools (JSON)").fill("[{]");
  await page.getByText(/Tools: this is not/).waitFor();
  await page.getByLabel("Tools (JSON)").fill("");
  await page.getByRole("button", { name: "Insert an example" }).click();
  await ask(page, "How is the weather?");
  const result = page.getByLabel("Result of get_weather");
  await result.fill('{"sky":"blue"}');
  await page.getByTestId("turns").getByText("city").first().waitFor();
  await look(page, "chat-tools");
  await page.getByRole("button", { name: "Go on with this result" }).click();
  await page.getByText("It is blue there.").waitFor();
  assert.equal(upstream.asked[0].tools[0].function.name, "get_weather");
  const { messages } = upstream.asked.at(-1);
  assert.deepEqual(messages.map((message) => message.role), ["user", "assistant", "tool"]);
  assert.equal(messages[1].tool_calls[0].id, messages[2].tool_call_id);
  assert.equal(await page.evaluate(() => window.hit), undefined);
});

test("pictures go along, errors say what to do, and a question can be asked anew", async ({ page, gateway, upstream, allow }) => {
  allow(/status of (404|502)/);
  let broken = true;
  upstream.say = (body) => (broken ? { status: 500, text: `no ${NASTY}` } : `I see ${body.messages.at(-1).content.length} parts.`);
  await page.goto(`${gateway.url}/chat?model=fake-1`);
  await page.locator("input[type=file]").setInputFiles(picture);
  await page.getByRole("img", { name: "Picture 1" }).waitFor();
  await ask(page, "What is this?");
  const error = page.getByRole("alert").filter({ hasText: "no <img" });
  await error.getByText("Try again, or choose another model").waitFor();
  await look(page, "chat-error");
  broken = false;
  await error.getByRole("button", { name: "Try again" }).click();
  await page.getByText("I see 2 parts.").waitFor();
  assert.match(upstream.asked.at(-1).messages[0].content[1].image_url.url, /^data:image\/png;base64,/);
  await page.getByRole("button", { name: "Edit and ask again" }).click();
  await page.getByRole("img", { name: "Picture 1" }).waitFor();
  assert.equal(await page.getByRole("textbox", { name: "Message" }).inputValue(), "What is this?");
  const picker = page.getByRole("combobox", { name: "Model" });
  await picker.fill("nobody/has-this");
  await page.keyboard.press("Enter");
  await page.getByRole("button", { name: "Send" }).click();
  await page.getByText("Choose a model from the list").waitFor();
  assert.equal(await page.evaluate(() => window.hit), undefined);
});
