/**
 * What a client has to be told, as `qwarden env` says it.
 * @module
 */

/** @typedef {{ key: string, title: string, text: string, then: string }} Snippet */

/** @param {string} root without `/v1` @param {string} model @param {string | null} [key] of the client, where it needs one @returns {Snippet[]} */
export function snippets(root, model, key = null) {
  const base = `${root}/v1`;
  const text = JSON.stringify;
  const shell = (/** @type {string} */ value) => `'${value.replaceAll("'", `'\\''`)}'`;
  return [
    {
      key: "curl",
      title: "curl",
      text: `curl ${base}/chat/completions \\\n  ${key ? `-H ${shell(`authorization: Bearer ${key}`)} \\\n  ` : ""}-H 'content-type: application/json' \\\n  -d ${shell(JSON.stringify({ model, messages: [{ role: "user", content: "Hello there" }] }))}`,
      then: "Paste it into a terminal.",
    },
    {
      key: "python",
      title: "Python",
      text: `from openai import OpenAI\n\nclient = OpenAI(base_url=${text(base)}, api_key=${text(key ?? "qwarden")})\nanswer = client.chat.completions.create(\n    model=${text(model)},\n    messages=[{"role": "user", "content": "Hello there"}],\n)\nprint(answer.choices[0].message.content)`,
      then: "Needs pip install openai.",
    },
    {
      key: "node",
      title: "Node",
      text: `import OpenAI from "openai";\n\nconst client = new OpenAI({ baseURL: ${text(base)}, apiKey: ${text(key ?? "qwarden")} });\nconst answer = await client.chat.completions.create({\n  model: ${text(model)},\n  messages: [{ role: "user", content: "Hello there" }],\n});\nconsole.log(answer.choices[0].message.content);`,
      then: "Needs npm install openai.",
    },
    {
      key: "claude",
      title: "Claude Code",
      text: `export ANTHROPIC_BASE_URL=${shell(root)}\nexport ANTHROPIC_AUTH_TOKEN=${shell(key ?? "qwarden")}\nexport ANTHROPIC_MODEL=${shell(model)}`,
      then: "Then start claude in the same shell, or let `qwarden env claude-code --write` keep it.",
    },
    {
      key: "others",
      title: "Other tools",
      text: ["opencode", "codex", "qwen-code", "aider"].map((tool) => `qwarden env ${tool} --write`).join("\n"),
      then: `Each writes the tool's own configuration, after a question, and keeps a copy of what was there.${key ? " Put the key in the place of the word qwarden there." : ""}`,
    },
  ];
}
