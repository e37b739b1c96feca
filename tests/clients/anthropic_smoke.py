"""Anthropic's own Python client through the gateway: python anthropic_smoke.py http://127.0.0.1:3001"""

import sys

import anthropic

client = anthropic.Anthropic(base_url=sys.argv[1], api_key="any")
WORDS = "Grüße from the upstream 🌌"
TOOL = {"name": "read", "description": "Reads a file.",
        "input_schema": {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]}}
passed = 0


def check(what, truth):
    global passed
    if not truth:
        sys.exit(f"anthropic: {what} failed")
    passed += 1


def ask(model="fake/fake-1", text="Hello there", **more):
    messages = more.pop("messages", [{"role": "user", "content": text}])
    return client.messages.create(model=model, max_tokens=100, messages=messages, **more)


answer = ask()
check("message", answer.content[0].text == WORDS and answer.stop_reason == "end_turn" and answer.model == "fake/fake-1")
check("counts", (answer.usage.input_tokens, answer.usage.output_tokens) == (3, 5))
check("request id", answer._request_id.startswith("req_"))
with client.messages.stream(model="fake/fake-1", max_tokens=100, messages=[{"role": "user", "content": "x"}]) as stream:
    text = "".join(stream.text_stream)
    final = stream.get_final_message()
check("stream", text == WORDS and final.content[0].text == WORDS and final.stop_reason == "end_turn")
check("stream counts", final.usage.output_tokens == 5)

messages = [{"role": "user", "content": "x"}]
with client.messages.stream(model="fake-1", max_tokens=100, messages=messages, tools=[TOOL]) as stream:
    asked = stream.get_final_message()
calls = [block for block in asked.content if block.type == "tool_use"]
check("tool call", [(call.name, call.input) for call in calls] == [("read", {"path": "a.txt"})] and asked.stop_reason == "tool_use")
messages += [{"role": "assistant", "content": asked.content},
             {"role": "user", "content": [{"type": "tool_result", "tool_use_id": calls[0].id, "content": "the text of a.txt"}]}]
answer = ask(model="fake-1", messages=messages, tools=[TOOL])
check("tool result", answer.content[0].text == "It says: the text of a.txt")

check("echo", ask(model="echo").content[0].text == "Hello there")
counted = client.messages.count_tokens(model="echo", messages=[{"role": "user", "content": "hello world"}])
check("count_tokens", 2 <= counted.input_tokens <= 10)
names = [model.id for model in client.models.list()]
check("models", {"echo", "fake/fake-1"} <= set(names))
check("model", client.models.retrieve("echo").display_name == "echo")


def raises(kind, attempt):
    try:
        attempt()
    except kind as error:
        return error
    return None


missing = raises(anthropic.NotFoundError, lambda: ask(model="no-such-model"))
check("unknown model", missing is not None and "no-such-model" in str(missing) and missing.body["type"] == "error")
bad = raises(anthropic.BadRequestError, lambda: ask(messages=[{"role": "robot", "content": "x"}]))
check("bad request", bad is not None and "messages[0].role" in str(bad))
print(f"anthropic client: {passed} passed, 0 failed")
