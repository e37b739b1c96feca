"""The official Python client through the gateway: python openai_smoke.py http://127.0.0.1:3001/v1"""

import sys

import openai

client = openai.OpenAI(base_url=sys.argv[1], api_key="sk-dummy", max_retries=0)
ANSWERS = {"echo": "Hello there", "fake/fake-1": "Grüße from the upstream 🌌"}
passed = 0


def check(what, truth):
    global passed
    if not truth:
        sys.exit(f"python: {what} failed")
    passed += 1


def ask(model, text, **more):
    return client.chat.completions.create(model=model, messages=[{"role": "user", "content": text}], **more)


ids = [model.id for model in client.models.list()]
check("models.list", {"echo", "fake-1", "fake/fake-1"} <= set(ids))
check("models.retrieve", client.models.retrieve("fake/fake-1").id == "fake/fake-1")

for model, expected in ANSWERS.items():
    answer = ask(model, "Hello there")
    check("plain", answer.choices[0].message.content == expected and answer.choices[0].finish_reason == "stop")
    check("usage", answer.usage.total_tokens > 0)
    chunks = list(ask(model, "Hello there", stream=True))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    check("stream", text == expected and all(chunk.usage is None for chunk in chunks))
    check("finish", [c.choices[0].finish_reason for c in chunks if c.choices and c.choices[0].finish_reason] == ["stop"])
    chunks = list(ask(model, "Hello there", stream=True, stream_options={"include_usage": True}))
    check("stream usage", chunks[-1].usage.total_tokens > 0 and not chunks[-1].choices)

tools = [{"type": "function", "function": {"name": "read", "parameters": {"type": "object"}}}]
arguments = ""
for chunk in ask("fake/fake-1", "x", stream=True, tools=tools):
    for call in chunk.choices[0].delta.tool_calls or [] if chunk.choices else []:
        arguments += call.function.arguments or ""
check("tool call", arguments == '{"path": "a.txt"}')


def raises(kind, attempt):
    try:
        attempt()
    except kind as error:
        return error
    return None


error = raises(openai.APIError, lambda: list(ask("fake/fake-1", "cut", stream=True)))
check("a cut stream raises", error is not None and error.code == "upstream_cut")
error = raises(openai.RateLimitError, lambda: ask("fake/fake-1", "429"))
check("429", error is not None and "slow down" in error.message and error.response.headers["retry-after"] == "1")
check("404", raises(openai.NotFoundError, lambda: ask("ecko", "x")) is not None)
check("400", raises(openai.BadRequestError, lambda: client.chat.completions.create(model="echo", messages=[])) is not None)
print(f"python client: {passed} passed, 0 failed")
