// Serves dashboard/ from the disk with the binary's security headers, and hands /api to a running gateway, so that a change is
// seen without a build:  node tests/dashboard/dev.mjs [port=5173] [gateway=http://127.0.0.1:3002]
import { createReadStream, existsSync, readFileSync, statSync } from "node:fs";
import { createServer, request } from "node:http";
import { extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../../dashboard/", import.meta.url));
const kinds = { ".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml", ".png": "image/png", ".webmanifest": "application/manifest+json" };
// The same words as in src/http/dashboard.rs.
const policy = /const POLICY: &str = "([^;]*(?:;[^;"]*)*)"/.exec(readFileSync(join(root, "../src/http/dashboard.rs"), "utf8").replace(/\\\n\s*/g, ""))?.[1];
if (!policy) throw new Error("src/http/dashboard.rs has no POLICY");

/** Listens; also for tests (`DASHBOARD_DEV=1 tests/dashboard/run`). @param {number} port @param {() => string} gateway */
export async function serve(port, gateway) {
  const server = createServer((asked, answer) => answered(asked, answer, new URL(gateway())));
  await new Promise((resolve) => server.listen(port, "127.0.0.1", () => resolve(undefined)));
  return server;
}

function answered(asked, answer, target) {
  const url = new URL(asked.url ?? "/", "http://dev");
  if (/^\/(api|metrics)(\/|$)/.test(url.pathname)) return pass(asked, answer, target);
  const path = url.pathname === "/manifest.webmanifest" ? url.pathname : /^\/assets\/[^/]+(\/.+)$/.exec(url.pathname)?.[1];
  const file = join(root, path ? normalize(decodeURIComponent(path)) : "index.html");
  if (!file.startsWith(root) || !existsSync(file) || !statSync(file).isFile()) {
    answer.writeHead(404, { "content-type": "application/json" }).end('{"error":{"code":"not_found"}}');
    return;
  }
  answer.writeHead(200, { "content-type": kinds[extname(file)] ?? "application/octet-stream", "content-security-policy": policy, "x-content-type-options": "nosniff", "cache-control": "no-store" });
  if (extname(file) === ".html" || extname(file) === ".webmanifest") answer.end(readFileSync(file, "utf8").replaceAll("/assets/BUILD/", "/assets/dev/"));
  else createReadStream(file).pipe(answer);
}

function pass(asked, answer, target) {
  const headers = { ...asked.headers, host: target.host };
  if (headers.origin) headers.origin = target.origin;
  const passed = request({ hostname: target.hostname, port: target.port, method: asked.method, path: asked.url, headers }, (told) => {
    answer.writeHead(told.statusCode ?? 502, told.headers);
    told.pipe(answer);
    told.on("error", () => answer.destroy());
  });
  passed.on("error", () => (answer.headersSent ? answer.destroy() : answer.writeHead(502, { "content-type": "application/json" }).end('{"message":"the gateway cannot be reached"}')));
  answer.on("close", () => passed.destroy());
  asked.pipe(passed);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [port = "5173", gateway = "http://127.0.0.1:3002"] = process.argv.slice(2);
  const server = await serve(Number(port), () => gateway);
  console.log(`http://127.0.0.1:${server.address().port}`);
}
