// `qwarden login --browser`: a window of its own for a login at the site, whose cookies alone are read (S23).
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readdirSync, readFileSync, readlinkSync, statSync } from "node:fs";
import { createServer } from "node:http";
import { test, until } from "./fixture.mjs";
import { jwt } from "./site.mjs";

const token = jwt("u1");

/** A site that sends people around by way of another host, which leaves a cookie too, and logs them in at the end. */
async function startSite(t, gateway) {
  const site = { origin: "", checked: /** @type {string[]} */ ([]), visit: () => {}, lets: true, asked: 0 };
  const server = createServer((request, answer) => {
    const { port } = /** @type {any} */ (server.address());
    const goes = (/** @type {string} */ where, /** @type {string[]} */ cookies) => answer.writeHead(302, { location: where, "set-cookie": cookies }).end();
    const path = new URL(request.url ?? "", "http://site").pathname;
    if (path === "/auth") {
      site.asked += 1;
      site.visit();
      if (site.lets) return goes(`http://localhost:${port}/elsewhere`, ["acw_tc=a; Path=/; HttpOnly"]);
      return answer.writeHead(200, { "content-type": "text/html", "set-cookie": "bx-umidtoken=guest" }).end("<p>Log in");
    }
    if (path === "/elsewhere") return goes(`http://127.0.0.1:${port}/welcome`, ["stranger=secret; Path=/"]);
    if (path === "/welcome") return answer.writeHead(200, { "content-type": "text/html", "set-cookie": [`token=${token}; Path=/; HttpOnly`] }).end("<p>Hello");
    if (path === "/api/v1/auths/") site.checked.push(`${request.headers.cookie} | ${request.headers["user-agent"]}`);
    answer.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify({ id: "u", name: "User" }));
  });
  server.listen(0);
  await once(server, "listening");
  t.after(() => (server.closeAllConnections(), server.close()));
  site.origin = `http://127.0.0.1:${/** @type {any} */ (server.address()).port}`;
  await gateway.api("PUT", "/api/settings/qwen.baseUrl", { value: site.origin });
  return site;
}

/** The command, in a window that nobody sees. */
function logIn(gateway, ...more) {
  const binary = process.env.QWARDEN ?? "target/dashboard/qwarden";
  const browser = ["--browser-path", process.env.CHROMIUM ?? "/usr/bin/chromium", "--browser-flag=--headless=new", "--browser-flag=--no-sandbox"];
  const child = spawn(binary, ["login", "--browser", ...browser, "--url", gateway.url, ...more], { stdio: ["ignore", "pipe", "pipe"] });
  const said = { out: "", err: "" };
  child.stdout.on("data", (piece) => (said.out += piece));
  child.stderr.on("data", (piece) => (said.err += piece));
  const ended = once(child, "exit").then(([code]) => ({ code, ...said }));
  return { child, ended };
}

/** Processes of the window, by what they were started with. */
function windows() {
  const found = [];
  for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
    try {
      const line = readFileSync(`/proc/${pid}/cmdline`, "utf8");
      const folder = /--user-data-dir=([^\0]*qwarden-login-[^\0]*)/.exec(line)?.[1];
      if (folder) found.push({ pid: Number(pid), line, folder });
    } catch {
      // It ended meanwhile.
    }
  }
  return found;
}

/** Sockets of a process that others can connect to. @param {number} pid */
function listening(pid) {
  const open = new Set(readdirSync(`/proc/${pid}/fd`).map((fd) => {
    try {
      return /socket:\[(\d+)\]/.exec(readlinkSync(`/proc/${pid}/fd/${fd}`))?.[1];
    } catch {
      return undefined;
    }
  }));
  const rows = ["tcp", "tcp6"].flatMap((kind) => readFileSync(`/proc/${pid}/net/${kind}`, "utf8").trim().split("\n").slice(1));
  return rows.map((row) => row.trim().split(/\s+/)).filter((row) => row[3] === "0A" && open.has(row[9]));
}

test("somebody logs in in a window of its own, and only the site's cookies are read", async ({ t, gateway }) => {
  const site = await startSite(t, gateway);
  /** @type {{ mode: number, ports: number, line: string }[]} */
  const seen = [];
  site.visit = () => {
    for (const { pid, folder, line } of windows()) {
      if (/--type=/.test(line)) continue;
      seen.push({ mode: statSync(folder).mode & 0o777, ports: listening(pid).length, line });
    }
  };
  const { code, out, err } = await logIn(gateway, "--label", "mine").ended;
  assert.equal(code, 0, err);
  assert.match(out, /login `mine` stored: chat\.qwen\.ai takes it/);
  assert.equal(seen.length, 1, JSON.stringify(seen));
  assert.deepEqual([seen[0].mode, seen[0].ports], [0o700, 0]);
  assert.ok(!seen[0].line.includes("remote-debugging-port"));
  // What the site was asked with is what the browser would have sent, and no other host's.
  assert.equal(site.checked.length, 1);
  const [cookies, agent] = site.checked[0].split(" | ");
  assert.deepEqual(cookies.split("; ").sort(), ["acw_tc=a", `token=${token}`]);
  assert.match(agent, /Chrome\/\d+/);
  const { credentials } = await gateway.api("GET", "/api/qwen/credentials");
  assert.ok(!JSON.stringify(credentials ?? {}).includes("stranger"));
  assert.ok(!(out + err).includes(token));
  assert.deepEqual(windows(), []);
});

test("a window that is closed, or given up, leaves nothing behind", async ({ t, gateway }) => {
  const site = await startSite(t, gateway);
  site.lets = false;
  for (const end of ["the browser", "SIGINT", "SIGTERM", "SIGHUP"]) {
    const before = site.asked;
    const { child, ended } = logIn(gateway);
    await until(async () => site.asked > before, "the window is at the site");
    const [{ pid, folder }] = windows().filter(({ line }) => !/--type=/.test(line));
    if (end === "the browser") process.kill(pid, "SIGKILL");
    else child.kill(/** @type {NodeJS.Signals} */ (end));
    const { code, err } = await ended;
    assert.equal(code, 1, end);
    assert.match(err, end === "the browser" ? /ended before anybody was logged in/ : /interrupted/);
    assert.throws(() => statSync(folder), /ENOENT/, end);
    await until(async () => windows().length === 0, "no process is left");
  }
  // A guest of the site is nobody.
  assert.equal(site.checked.length, 0);
});

test("without a browser it says what to do", async ({ gateway }) => {
  const run = async (/** @type {string[]} */ args, env = {}) => {
    const child = spawn(process.env.QWARDEN ?? "target/dashboard/qwarden", ["login", "--url", gateway.url, ...args], { stdio: ["ignore", "ignore", "pipe"], env: { ...process.env, ...env } });
    let err = "";
    child.stderr.on("data", (piece) => (err += piece));
    const [code] = await once(child, "exit");
    return { code, err };
  };
  const none = await run(["--browser"], { PATH: "/nowhere" });
  assert.equal(none.code, 2);
  assert.match(none.err, /no browser was found; name one with --browser-path/);
  const wrong = await run(["--browser", "--browser-path", "/nowhere/chromium"]);
  assert.equal(wrong.code, 1);
  assert.match(wrong.err, /`\/nowhere\/chromium` does not start/);
  const both = await run(["--browser", "--cookies", "a=b"]);
  assert.equal(both.code, 2);
});
