"""Ollama's own Python client through the gateway: python ollama_smoke.py http://127.0.0.1:11434"""

import sys

import ollama

client = ollama.Client(host=sys.argv[1])
WORDS = "Grüße from the upstream 🌌"
passed = 0


def check(what, truth):
    global passed
    if not truth:
        sys.exit(f"ollama: {what} failed")
    passed += 1


def ask(text="Hello there", model="fake/fake-1", **more):
    return client.chat(model=model, messages=[{"role": "user", "content": text}], **more)


names = [model.model for model in client.list().models]
check("list", {"echo", "fake-1", "fake/fake-1"} <= set(names))
check("show", "completion" in client.show("fake-1:latest").capabilities)
check("ps", client.ps().models == [])
answer = ask()
check("chat", answer.message.content == WORDS and answer.done and answer.done_reason == "stop")
check("counts", answer.prompt_eval_count == 3 and answer.eval_count == 5 and answer.total_duration > 0)
pieces = list(ask(stream=True))
check("stream", "".join(piece.message.content or "" for piece in pieces) == WORDS and pieces[-1].done)
check("stream counts", pieces[-1].eval_count == 5)


def read(path: str) -> str:
    """Reads a file.

    Args:
      path: the file
    """
    return f"the text of {path}"


for stream in (False, True):
    messages = [{"role": "user", "content": "x"}]
    told = client.chat(model="fake-1", messages=messages, tools=[read], stream=stream)
    pieces = list(told) if stream else [told]
    calls = [call for piece in pieces for call in piece.message.tool_calls or []]
    check("tool call", [(call.function.name, call.function.arguments) for call in calls] == [("read", {"path": "a.txt"})])
    messages += [{"role": "assistant", "tool_calls": calls}]
    messages += [{"role": "tool", "tool_name": "read", "content": read(**calls[0].function.arguments)}]
    answer = client.chat(model="fake-1", messages=messages, tools=[read])
    check("tool result", answer.message.content == "It says: the text of a.txt")

check("generate", client.generate(model="echo", prompt="Hello there").response == "Hello there")
check("load", client.generate(model="echo").done_reason == "load")
check("embed", client.embed(model="fake-1", input=["a", "b"]).embeddings == [[0.5], [0.5]])


def raises(attempt):
    try:
        attempt()
    except ollama.ResponseError as error:
        return error
    return None


error = raises(lambda: ask(model="ecko"))
check("404", error is not None and error.status_code == 404 and "echo" in error.error)
error = raises(lambda: list(ask("cut", stream=True)))
check("a cut stream raises", error is not None and "ended early" in error.error)
error = raises(lambda: ask("429"))
check("429", error is not None and error.status_code == 429)
print(f"ollama client: {passed} passed, 0 failed")
