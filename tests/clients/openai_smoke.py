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


def respond(text, **more):
    return client.responses.create(model="fake/fake-1", input=text, **more)


answer = respond("Hello there", instructions="be kind")
check("response", answer.output_text == ANSWERS["fake/fake-1"] and answer.status == "completed")
check("response usage", answer.usage.total_tokens == 8 and answer.instructions == "be kind")
check("a stored response", client.responses.retrieve(answer.id).output_text == answer.output_text)
check("previous_response_id", respond("and?", previous_response_id=answer.id).previous_response_id == answer.id)
items = client.responses.input_items.list(answer.id)
check("input items", [item.content[0].text for item in items.data] == ["Hello there"])
flat = [{"type": "function", "name": "read", "parameters": {"type": "object"}, "strict": False}]
with client.responses.stream(model="fake/fake-1", input="x", tools=flat) as stream:
    kinds = [event.type for event in stream]
    call = stream.get_final_response().output[0]
check("response call", (call.type, call.name, call.arguments) == ("function_call", "read", '{"path": "a.txt"}'))
check("response events", kinds[0] == "response.created" and kinds[-1] == "response.completed")
with client.responses.stream(model="fake/fake-1", input="x") as stream:
    text = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
check("response stream", text == answer.output_text)
last = list(respond("cut", stream=True))[-1]
check("a cut response fails", last.type == "response.failed" and last.response.error.code == "upstream_cut")
client.responses.delete(answer.id)
check("a deleted response", raises(openai.NotFoundError, lambda: client.responses.retrieve(answer.id)) is not None)
error = raises(openai.BadRequestError, lambda: respond("x", previous_response_id=answer.id))
check("response 400", error is not None and error.code == "previous_response_not_found")
check("response 429", raises(openai.RateLimitError, lambda: respond("429")) is not None)
print(f"python client: {passed} passed, 0 failed")
