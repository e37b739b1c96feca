// chat.qwen.ai as far as a conversation needs it (the protocol's facts are in tests/fixtures/qwen-web): chats, answers, deletion.
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { fileURLToPath } from "node:url";

const fixture = (name) => readFileSync(fileURLToPath(new URL(`../fixtures/qwen-web/${name}`, import.meta.url)), "utf8");

/** A token that names `user` and ends far in the future. @param {string} user */
export function jwt(user) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  return `${part({ alg: "HS256", typ: "JWT" })}.${part({ id: user, exp: 4_000_000_000 })}.${part("a signature")}`;
}

/** Answers every turn with `site.say(content)`; `site.deleted` has the chats that were deleted. */
export async function startSite() {
  const site = { origin: "", deleted: [], say: (content) => `You said: ${content}`, close: () => {} };
  let next = 0;
  const server = createServer(async (request, answer) => {
    let raw = "";
    for await (const piece of request) raw += piece;
    const url = new URL(request.url, "http://site");
    const json = (text) => answer.writeHead(200, { "content-type": "application/json" }).end(typeof text === "string" ? text : JSON.stringify(text));
    if (url.pathname === "/api/models") return json(fixture("models.json"));
    if (url.pathname === "/api/v1/auths/") return json({ id: "u", name: "User" });
    if (url.pathname === "/api/v2/chats/new") return json({ success: true, request_id: "r", data: { id: `chat-${++next}` } });
    if (request.method === "DELETE") {
      site.deleted.push(url.pathname.split("/").pop());
      return json(fixture("chat-deleted.json"));
    }
    if (url.pathname !== "/api/v2/chat/completions") return json({ success: true, data: { status: true } });
    const body = JSON.parse(raw);
    const id = `response-${++next}`;
    const send = (data) => answer.write(`data: ${JSON.stringify(data)}\n\n`);
    const phase = (content, status) => ({ choices: [{ delta: { role: "assistant", content, phase: "answer", status } }], usage: { input_tokens: 7, output_tokens: 3, total_tokens: 10 } });
    answer.writeHead(200, { "content-type": "text/event-stream" });
    send({ "response.created": { chat_id: body.chat_id, parent_id: `user-${id}`, response_id: id } });
    send(phase(site.say(body.messages[0].content), "typing"));
    send(phase("", "finished"));
    answer.end();
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  site.origin = `http://127.0.0.1:${server.address().port}`;
  site.close = () => {
    server.closeAllConnections();
    server.close();
  };
  return site;
}

/** Has the gateway log in to the site. @param {any} gateway @param {any} site */
export async function logIn(gateway, site) {
  await gateway.api("PUT", "/api/settings/qwen.baseUrl", { value: site.origin });
  const token = jwt("u1");
  await gateway.api("POST", "/api/qwen/credentials", { label: "default", token, cookies: `token=${token}; acw_tc=a` });
}
