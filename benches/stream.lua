wrk.method = "POST"
wrk.headers["content-type"] = "application/json"
wrk.body = '{"model":"bench","stream":true,"messages":[{"role":"user","content":"Hello there"}]}'
