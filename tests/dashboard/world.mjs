// A gateway as it looks after a day of work: providers, models, keys, a Qwen login, conversations, failures, hours of statistics.
import { execFileSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { until } from "./fixture.mjs";
import { startSite } from "./site.mjs";

const MODELS = {
  workstation: ["qwen3-coder:30b", "llama3.3:70b", "gpt-oss:20b", "nomic-embed-text", "gemma3:27b"],
  cloud: ["gpt-4.1", "gpt-4.1-mini", "o4-mini", "text-embedding-3-small"],
  hub: ["anthropic/claude-sonnet-4.5", "qwen/qwen3-coder", "deepseek/deepseek-r1", "google/gemini-2.5-flash", "mistralai/devstral-small"],
};

const ASKED = [
  ["qwen3-coder:30b", "Write a function that merges overlapping intervals, with tests.", 1_240, 418],
  ["cloud/gpt-4.1", "Summarise the attached meeting notes in five bullet points.", 3_180, 226],
  ["coder", "Why does `cargo test` hang when the fixture drops its channel?", 8_412, 731],
  ["hub/anthropic/claude-sonnet-4.5", "Review this migration for locks that would block writes.", 5_960, 1_104],
  ["cloud/gpt-4.1-mini", "Translate the release notes to Portuguese.", 912, 860],
  ["gpt-oss:20b", "Name three names for a chat client of a zoo.", 86, 64],
  ["llama3.3:70b", "Explain the difference between a mutex and a semaphore to a child.", 64, 310],
  ["hub/deepseek/deepseek-r1", "How many primes are there below 200, and how do you know?", 42, 1_920],
];

const ANSWER = `Three things keep it from ending:

1. The **sender is still alive**. \`Fixture\` holds a clone, so \`recv()\` waits for ever.
2. \`Drop\` runs *after* the join, because fields are dropped in the order of their declaration.
3. The test's runtime has one thread, and it is the one that blocks.

\`\`\`rust
impl Drop for Fixture {
    fn drop(&mut self) {
        drop(self.sender.take());
        self.worker.take().map(|worker| worker.join());
    }
}
\`\`\`

| Change | Effect |
|---|---|
| Take the sender first | \`recv()\` ends |
| Then join | no lost messages |`;

/** What the upstream says, by what it is asked. @param {any} body @param {string} path */
function said(body, path) {
  const last = body.messages?.at(-1) ?? {};
  const text = typeof last.content === "string" ? last.content : JSON.stringify(last.content ?? "");
  const [, , input = 120, output = 80] = ASKED.find(([, asked]) => asked === text) ?? [];
  const tokens = [input, output];
  if (/out of memory/.test(text) || (path.startsWith("/workstation") && /cargo test/.test(text))) return { status: 503, text: "the model does not fit into the memory that is left" };
  if (/quota/.test(text)) return { status: 429, text: "You exceeded your current quota, please check your plan and billing details." };
  if (body.tools && last.role !== "tool") return { tools: [{ name: "get_weather", arguments: { city: "Lisbon", unit: "celsius" } }], tokens };
  if (last.role === "tool") return { text: "It is 24 °C and sunny in Lisbon: no umbrella needed.", tokens };
  if (/primes|tunnel/.test(text)) return { thinking: "The sieve of Eratosthenes: cross out the multiples of 2, 3, 5, 7, 11 and 13, since 14² = 196 < 200 < 17². What is left are the primes.", text: "There are **46** primes below 200. I counted them with the sieve of Eratosthenes.", tokens, pause: 8 };
  return { text: ANSWER, tokens, pause: 4 };
}

/**
 * @param {{ gateway: any, upstream: any }} fixture
 * @returns {Promise<{ request: string, failed: string, session: string, close: () => void }>} ids of what can be looked at closely
 */
export async function furnish({ gateway, upstream }) {
  const site = await startSite();
  try {
    return await furnished(gateway, upstream, site);
  } catch (error) {
    site.close();
    throw error;
  }
}

/** @param {any} gateway @param {any} upstream @param {any} site */
async function furnished(gateway, upstream, site) {
  const { api } = gateway;
  upstream.models = (/** @type {string} */ path) => MODELS[/** @type {keyof typeof MODELS} */ (path.split("/")[1])] ?? [];
  upstream.say = said;
  const at = (/** @type {string} */ name) => upstream.base.replace("/v1", `/${name}/v1`);
  const provider = (/** @type {string} */ id, /** @type {string} */ name, /** @type {number} */ priority, more = {}) =>
    api("POST", "/api/providers", { id, name, type: "openai", enabled: false, priority, config: { baseURL: at(id), apiKey: `sk-${id}-3f9c2b7e`, ...more } });
  await provider("workstation", "Workstation (Ollama)", 20);
  await provider("cloud", "OpenAI", 10, { requestsPerMinute: 500 });
  await provider("hub", "OpenRouter", 5, { headers: { "X-Title": "qwarden" } });
  await api("POST", "/api/providers", { id: "old-lab", name: "Lab server", type: "openai", enabled: false, priority: 0, config: { baseURL: "http://127.0.0.1:9/v1", apiKey: "sk-lab" } });
  await api("PUT", "/api/settings/qwen.baseUrl", { value: site.origin });
  const token = [{ alg: "HS256", typ: "JWT" }, { id: "u1", exp: Math.floor(Date.now() / 1_000) + 23 * 86_400 }, "a signature"].map((part) => Buffer.from(JSON.stringify(part)).toString("base64url")).join(".");
  await api("POST", "/api/qwen/credentials", { label: "default", token, cookies: `token=${token}; acw_tc=a; isg=b; tfstk=c` });
  const describe = async (/** @type {string} */ id, /** @type {string} */ from, /** @type {string[]} */ capabilities, config = {}) => {
    await api("POST", "/api/models", { id, name: id, capabilities });
    await api("POST", `/api/providers/${from}/models`, { model_id: id, config });
  };
  await describe("gpt-4.1", "cloud", ["code", "vision"], { context_length: 1_047_576, tools: true, vision: true, price: { input: 2, output: 8 } });
  await describe("gpt-4.1-mini", "cloud", ["code"], { context_length: 1_047_576, tools: true, price: { input: 0.4, output: 1.6 } });
  await describe("anthropic/claude-sonnet-4.5", "hub", ["code", "vision"], { context_length: 200_000, tools: true, vision: true, price: { input: 3, output: 15 } });
  await describe("qwen3-coder:30b", "workstation", ["code"], { context_length: 262_144, tools: true });
  // Only then they list the others.
  for (const id of ["workstation", "cloud", "hub", "qwen-direct-default"]) await api("POST", `/api/providers/${id}/enable`);
  await api("POST", "/api/models/sync");
  await api("POST", "/api/virtual-models", { name: "coder", description: "Local first", targets: ["workstation/qwen3-coder:30b", "hub/qwen/qwen3-coder", "cloud/gpt-4.1"] });
  await api("POST", "/api/virtual-models", { name: "gpt-*", targets: ["cloud/gpt-4.1-mini"] });
  await api("POST", "/api/virtual-models", { name: "cheap", strategy: "weighted", targets: [{ target: "workstation/gpt-oss:20b", weight: 3 }, { target: "cloud/gpt-4.1-mini", weight: 1 }] });
  await api("PUT", "/api/settings/active_model", { value: "coder" });
  await api("PUT", "/api/settings/auth.requireKeys", { value: "always" });
  const ci = (await api("POST", "/api/keys", { name: "CI", rate_per_minute: 60, tokens_per_month: 2_000_000, allowed_models: ["coder", "gpt-4.1-mini"] })).key;
  const key = (await api("POST", "/api/keys", { name: "Laptop, VS Code", tokens_per_day: 100_000 })).key;
  await api("POST", "/api/keys", { name: "Guest", expires_at: Date.now() + 5 * 86_400_000, cost_per_day_microusd: 500_000 });

  const ask = async (/** @type {any} */ body, headers = {}, base = `${gateway.router}/v1`) => {
    const answer = await fetch(`${base}/chat/completions`, { method: "POST", headers: { "content-type": "application/json", "user-agent": "opencode/0.6.4", authorization: `Bearer ${key}`, ...headers }, body: JSON.stringify(body) });
    await answer.text();
    return String(answer.headers.get("x-request-id")).replace(/^req_/, "");
  };
  const say = (/** @type {string} */ model, /** @type {string} */ content, stream = true) => ({ model, stream, messages: [{ role: "system", content: "You are a careful engineer. Be brief." }, { role: "user", content }] });
  for (let round = 0; round < 2; round += 1) await Promise.all(ASKED.map(([model, text], index) => ask(say(String(model), String(text), index % 3 !== 2))));
  const qwen = `http://127.0.0.1:${(await api("GET", "/api/proxy/status")).qwenProxy.port}/v1`;
  site.say = (content) => (/sky/.test(content) ? "Air scatters short waves more than long ones, so the blue of the light comes from everywhere." : "The moon pulls at the water on the near side more than at the earth's middle.");
  for (const content of ["Why is the sky blue?", "How do tides work?", "Plan a week of dinners for four, without nuts."]) await ask({ model: "qwen3-max", messages: [{ role: "user", content }] }, {}, qwen);
  await ask(say("coder", "Is the build green?", false), { authorization: `Bearer ${ci}` });
  await ask(say("cloud/o4-mini", "Is my quota used up?"));
  await older(gateway);
  // After the hours that are made up: what is looked at closely.
  const failed = await ask(say("workstation/llama3.3:70b", "Will this run out of memory?"));
  await ask(say("hub/deepseek/deepseek-r1", String(ASKED[7][1])), { "x-qwarden-record": "true" });
  await ask({ ...say("cloud/gpt-4.1", "What is the weather in Lisbon?"), tools: [{ type: "function", function: { name: "get_weather", parameters: { type: "object" } } }] });
  const request = await ask(say("coder", String(ASKED[2][1])), { "x-qwarden-record": "true", "x-qwarden-tags": "team=platform" });
  await api("POST", "/api/fault/crash/router");
  for (const [model, text] of ASKED.slice(3)) await ask(say(String(model), String(text)));
  const session = (await api("GET", "/api/sessions")).sessions?.[0]?.id ?? "";
  return { request, failed, session, close: () => site.close() };
}

/** Spreads what there is over the last hours, and counts it more often in the sums. @param {any} gateway */
async function older(gateway) {
  // What ended is written a moment after its answer.
  await until(async () => {
    const [all, sums] = await Promise.all([gateway.api("GET", "/api/requests?limit=1"), gateway.api("GET", "/api/responses/stats")]);
    return sums.total_responses === all.total;
  }, "everything is in the history");
  await gateway.kill();
  const data = join(gateway.folder, "data");
  execFileSync("python3", ["-c", SPREAD, join(data, String(readdirSync(data).find((name) => name.endsWith(".db"))))]);
  await gateway.start();
}

const SPREAD = `
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("BEGIN")
ids = [row[0] for row in db.execute("SELECT id FROM requests ORDER BY id DESC")]
for at, id in enumerate(ids):
    back = (at * at * 4 + at * 25) * 1000
    db.execute("UPDATE requests SET timestamp = timestamp - ?, created_at = created_at - ? WHERE id = ?", (back, back, id))
    db.execute("UPDATE responses SET timestamp = timestamp - ?, created_at = created_at - ? WHERE request_id = ?", (back, back, id))
    db.execute("UPDATE attempts SET started_at = started_at - ? WHERE request_id = ?", (back, id))
HOUR = 3600000
for table, sums in (("usage_rollups", 1), ("usage_latencies", 0)):
    names = [row[1] for row in db.execute(f"PRAGMA table_info({table})")]
    for row in db.execute(f"SELECT * FROM {table}").fetchall():
        for back in range(1, 22):
            busy = (3 + (back * 7) % 11) if back < 11 or back > 18 else (back % 3)
            if busy == 0 or (back + len(row[2])) % 5 == 0:
                continue
            hour = row[0] - back * (HOUR if row[0] > 1e11 else 1)
            values = [hour, row[1], row[2]] + [v * busy if sums else v for v in row[3:]]
            db.execute(f"INSERT OR IGNORE INTO {table} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})", values)
db.execute("COMMIT")
`;
