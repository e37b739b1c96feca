"""LangChain through the gateway, a tool and a schema included: python langchain_smoke.py http://127.0.0.1:3001/v1"""

import sys

from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel

WORDS = "Grüße from the upstream 🌌"
settings = {"base_url": sys.argv[1], "api_key": "sk-dummy", "model": "fake/fake-1"}
model = ChatOpenAI(**settings, max_retries=0)
passed = 0


def check(what, truth):
    global passed
    if not truth:
        sys.exit(f"langchain: {what} failed")
    passed += 1


class Place(BaseModel):
    """Where something is."""

    city: str


@tool
def read(path: str) -> str:
    """Reads a file."""
    return f"the text of {path}"


answer = model.invoke("Hello there")
check("invoke", answer.content == WORDS and answer.usage_metadata["total_tokens"] == 8)
check("stream", "".join(piece.content for piece in model.stream("Hello there")) == WORDS)
messages = [HumanMessage("x")]
agent = model.bind_tools([read])
call = agent.invoke(messages)
check("tool call", [(one["name"], one["args"]) for one in call.tool_calls] == [("read", {"path": "a.txt"})])
messages += [call, ToolMessage(read.invoke(call.tool_calls[0]["args"]), tool_call_id=call.tool_calls[0]["id"])]
check("tool result", agent.invoke(messages).content == "It says: the text of a.txt")
place = ChatOpenAI(**{**settings, "model": "plain/fake-1"}).with_structured_output(Place, method="json_schema").invoke("where?")
check("schema", place == Place(city="Ulm"))
vectors = OpenAIEmbeddings(**settings, check_embedding_ctx_length=False).embed_documents(["a", "b"])
check("embeddings", vectors == [[0.5], [0.5]])
print(f"langchain: {passed} passed, 0 failed")
