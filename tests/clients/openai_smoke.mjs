// The official Node client through the gateway: node openai_smoke.mjs http://127.0.0.1:3001/v1
import OpenAI from "openai";

const client = new OpenAI({ baseURL: process.argv[2], apiKey: "sk-dummy", maxRetries: 0 });
const answers = { "echo": "Hello there", "fake/fake-1": "Grüße from the upstream 🌌" };
let passed = 0;

function check(what, truth) {
  if (!truth) {
    console.error(`node: ${what} failed`);
    process.exit(1);
  }
  passed += 1;
}

const ask = (model, content, more = {}) =>
  client.chat.completions.create({ model, messages: [{ role: "user", content }], ...more });

const ids = [];
for await (const model of client.models.list()) ids.push(model.id);
check("models.list", ["echo", "fake-1", "fake/fake-1"].every((id) => ids.includes(id)));

for (const [model, expected] of Object.entries(answers)) {
  const answer = await ask(model, "Hello there");
  check("plain", answer.choices[0].message.content === expected && answer.choices[0].finish_reason === "stop");
  let text = "";
  let usage = null;
  for await (const chunk of await ask(model, "Hello there", { stream: true, stream_options: { include_usage: true } })) {
    text += chunk.choices[0]?.delta?.content ?? "";
    usage = chunk.usage ?? usage;
  }
  check("stream", text === expected && usage.total_tokens > 0);
}

async function raised(attempt) {
  try {
    await attempt();
  } catch (error) {
    return error;
  }
  return null;
}

const cut = await raised(async () => {
  for await (const _ of await ask("fake/fake-1", "cut", { stream: true }));
});
check("a cut stream raises", cut instanceof OpenAI.APIError);
check("429", (await raised(() => ask("fake/fake-1", "429"))) instanceof OpenAI.RateLimitError);
check("404", (await raised(() => ask("ecko", "x"))) instanceof OpenAI.NotFoundError);
console.log(`node client: ${passed} passed, 0 failed`);
