"""An OpenAI-compatible server on a free port, which it prints; its answers are fixed."""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

WORDS = ["Grüße ", "from ", "the ", "upstream ", "🌌"]
TOOL = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "read", "arguments": ""}}


def chunk(delta, finish_reason=None, **more):
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    head = {"id": "chatcmpl-9", "object": "chat.completion.chunk", "created": 9, "model": "fake-1"}
    return {**head, "choices": [choice], **more}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, body, **headers):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self):
        model = {"id": "fake-1", "object": "model", "created": 9, "owned_by": "tests"}
        self.answer(200, {"object": "list", "data": [model]})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.path.endswith("/embeddings"):
            rows = [{"object": "embedding", "index": place, "embedding": [0.5]} for place in range(len(body["input"]))]
            return self.answer(200, {"object": "list", "data": rows, "usage": {"prompt_tokens": 3, "total_tokens": 3}})
        last = body["messages"][-1]
        text = last["content"]
        words = [f"It says: {text}"] if last["role"] == "tool" else WORDS
        if text == "where?":
            words = ['It is {"city": "Ulm"}.']
        calls = body.get("tools") and last["role"] != "tool"
        if text == "cut":
            return self.stream([chunk({"role": "assistant", "content": "half "})], done=False)
        if text == "429":
            error = {"message": "slow down", "type": "rate_limit_error", "code": "rate_limited"}
            return self.answer(429, {"error": error}, retry_after="1")
        if not body.get("stream"):
            message = {"role": "assistant", "content": "".join(words)}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            if calls:
                call = {**TOOL, "function": {"name": "read", "arguments": '{"path": "a.txt"}'}}
                choice = {"index": 0, "message": {"role": "assistant", "content": None, "tool_calls": [call]},
                          "finish_reason": "tool_calls"}
            usage = {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}
            head = {"id": "chatcmpl-9", "object": "chat.completion", "created": 9, "model": "fake-1"}
            return self.answer(200, {**head, "choices": [choice], "usage": usage})
        if calls:
            parts = [{"index": 0, "function": {"arguments": part}} for part in ['{"path":', ' "a.txt"}']]
            chunks = [chunk({"role": "assistant", "content": None, "tool_calls": [TOOL]})]
            chunks += [chunk({"tool_calls": [part]}) for part in parts]
            return self.stream(chunks + [chunk({}, "tool_calls")])
        chunks = [chunk({"role": "assistant", "content": ""})] + [chunk({"content": word}) for word in words]
        chunks.append(chunk({}, "stop"))
        if (body.get("stream_options") or {}).get("include_usage"):
            usage = {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}
            chunks.append({**chunk({}), "choices": [], "usage": usage})
        self.stream(chunks)

    def stream(self, chunks, done=True):
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        events = [f"data: {json.dumps(chunk, ensure_ascii=False)}\n\n" for chunk in chunks]
        for event in events + (["data: [DONE]\n\n"] if done else []):
            data = event.encode()
            self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.write(b"0\r\n\r\n")


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(f"http://127.0.0.1:{server.server_port}/v1", flush=True)
server.serve_forever()
