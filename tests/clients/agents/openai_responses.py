"""A small agent on openai-python's Responses: python openai_responses.py http://127.0.0.1:3000/v1 "the task"

It sends only what is new and names the response before it, so the gateway's history is part of what is tried.
"""

import json
import subprocess
import sys
from pathlib import Path

import openai

client = openai.OpenAI(base_url=sys.argv[1], api_key="sk-dummy")


def edit(path, old, new):
    Path(path).write_text(Path(path).read_text().replace(old, new))
    return "edited"


def run(command):
    return subprocess.run(command, shell=True, capture_output=True, text=True).stdout or "done"


RUNS = {"read": lambda path: Path(path).read_text(), "edit": edit, "run": run}


def tool(name, *parameters):
    properties = {parameter: {"type": "string"} for parameter in parameters}
    schema = {"type": "object", "properties": properties, "required": list(parameters), "additionalProperties": False}
    return {"type": "function", "name": name, "description": name, "parameters": schema, "strict": True}


tools = [tool("read", "path"), tool("edit", "path", "old", "new"), tool("run", "command")]
said, before = [{"role": "user", "content": sys.argv[2]}], None
for _ in range(10):
    with client.responses.stream(model="qwen3-max", input=said, tools=tools, previous_response_id=before) as stream:
        for event in stream:
            if event.type == "response.output_text.delta":
                print(event.delta, end="", flush=True)
        response = stream.get_final_response()
    print()
    before, said = response.id, []
    for item in response.output:
        if item.type == "function_call":
            output = RUNS[item.name](**json.loads(item.arguments))
            said.append({"type": "function_call_output", "call_id": item.call_id, "output": output})
    if not said:
        break
assert client.responses.retrieve(before).output_text == response.output_text
