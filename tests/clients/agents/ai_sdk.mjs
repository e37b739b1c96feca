// A small agent on the Vercel AI SDK: node ai_sdk.mjs http://127.0.0.1:3000/v1 "task", in the folder of the task.
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { jsonSchema, stepCountIs, streamText, tool } from "ai";
import { execSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";

const [baseURL, task] = process.argv.slice(2);
const provider = createOpenAICompatible({ name: "qwarden", baseURL, apiKey: "sk-dummy" });
const schema = (...names) =>
  jsonSchema({
    type: "object",
    properties: Object.fromEntries(names.map((name) => [name, { type: "string" }])),
    required: names,
    additionalProperties: false,
  });

const tools = {
  read: tool({ description: "Reads a file", inputSchema: schema("path"), execute: ({ path }) => readFileSync(path, "utf8") }),
  edit: tool({
    description: "Replaces text in a file",
    inputSchema: schema("path", "old", "new"),
    execute: (input) => {
      const text = readFileSync(input.path, "utf8");
      writeFileSync(input.path, text.replace(input.old, () => input.new));
      return "done";
    },
  }),
  run: tool({ description: "Runs a command", inputSchema: schema("command"), execute: ({ command }) => execSync(command).toString() }),
};

const result = streamText({
  model: provider("qwen3-max"),
  prompt: task,
  tools,
  stopWhen: stepCountIs(8),
  maxRetries: 0,
  onError: ({ error }) => {
    console.error(error);
    process.exitCode = 1;
  },
});
for await (const text of result.textStream) process.stdout.write(text);
