import assert from "node:assert/strict";
import { test, until } from "./fixture.mjs";

/** Puts a component in the place of the page. @param {any} page @param {any} gateway @param {string} code gets `lib`, the modules; gives a node */
async function mount(page, gateway, code) {
  await page.goto(gateway.url);
  await page.getByRole("heading", { level: 1, name: "Home" }).waitFor();
  await page.evaluate(async (body) => {
    const base = document.querySelector("script[src$='/app.js']").src.replace("app.js", "");
    const load = (name) => import(`${base}lib/${name}.js`);
    const [preact, ui, api] = await Promise.all([load("preact"), load("ui"), load("api")]);
    const lib = { ...preact, ...ui, ...api };
    window.lib = lib;
    const main = document.getElementById("main");
    main.replaceChildren();
    const place = document.createElement("div");
    main.append(place);
    const nodes = {
      list: () => {
        window.blocks = [];
        const source = lib.rowSource(async (offset, limit) => {
          window.blocks.push(offset);
          await new Promise((resolve) => setTimeout(resolve, 5));
          return { total: 1_000_000, rows: Array.from({ length: limit }, (_, at) => ({ id: offset + at })) };
        });
        return lib.html`<${lib.VirtualList} source=${source} label="Many" rowHeight=${32} height="400px" render=${(row) => lib.html`<span>row ${row.id}</span>`} onOpen=${(row) => (window.opened = row.id)} />`;
      },
      markdown: () => lib.html`<${lib.Markdown} text=${window.text} />`,
      form: () => lib.html`<${() => {
        const form = lib.useForm({ id: "", name: "", type: "openai" }, (values) => lib.api.post("/api/providers", values));
        return lib.html`<${lib.Form} form=${form}><${lib.Field} ...${form.field("id")} label="Id" /><${lib.Field} ...${form.field("name")} label="Name" /><//>`;
      }} />`,
    };
    lib.render(nodes[body](), place);
  }, code);
}

test("a million rows scroll without a long task", async ({ page, gateway }) => {
  await page.addInitScript(() => {
    window.long = [];
    new PerformanceObserver((list) => window.long.push(...list.getEntries().map(({ duration }) => duration))).observe({ type: "longtask" });
  });
  await mount(page, gateway, "list");
  await page.getByText("row 0", { exact: true }).waitFor();
  const list = page.getByRole("listbox", { name: "Many" });
  await page.evaluate(() => void (window.long.length = 0));
  for (let step = 0; step < 30; step += 1) {
    await list.evaluate((box, part) => (box.scrollTop = (box.scrollHeight * part) / 30), step);
    await page.evaluate(() => new Promise(requestAnimationFrame));
    assert.ok((await list.getByRole("option").count()) < 60);
  }
  const long = await page.evaluate(() => window.long);
  console.log(`long tasks while scrolling: ${long.length ? long.join(", ") : "none"}`);
  await list.focus();
  await page.keyboard.press("End");
  await page.getByText("row 999999", { exact: true }).waitFor();
  await page.keyboard.press("Enter");
  await until(() => page.evaluate(() => window.opened === 999_999), "Enter opens the last row");
  await page.keyboard.press("Home");
  await page.getByText("row 0", { exact: true }).waitFor();
  await page.keyboard.press("ArrowDown");
  assert.match(String(await list.getAttribute("aria-activedescendant")), /-1$/);
});

test("markdown shows what a model says, and nothing of it becomes markup", async ({ page, gateway }) => {
  await page.addInitScript(() => {
    window.text = [
      "# Title <script>window.hit=1</script>",
      "<img src=x onerror=window.hit=2> **bold** `code <b>` [good](https://example.com/a?b=1) [bad](javascript:window.hit=3) [data](data:text/html,x)",
      "![tracker](https://tracker.example/p.png)",
      "- one\n- two\n  - inner",
      "1. first\n2. second",
      "> quoted",
      "| a | b |\n|---|---|\n| 1 | <i>2</i> |",
      "```js\nconst x = '<script>';\n```",
      "https://plain.example/x.",
    ].join("\n\n");
  });
  await mount(page, gateway, "markdown");
  const box = page.locator(".markdown");
  await box.getByRole("heading", { name: /^Title <script>/ }).waitFor();
  assert.equal(await box.locator("img, script, i, b, iframe").count(), 0);
  assert.equal(await box.locator("strong").textContent(), "bold");
  assert.equal(await box.locator("ul ul li").textContent(), "inner");
  assert.equal(await box.locator("ol li").count(), 2);
  assert.equal(await box.locator("table td").nth(1).textContent(), "<i>2</i>");
  assert.equal(await box.locator("pre").textContent(), "const x = '<script>';");
  const links = await box.locator("a").evaluateAll((all) => all.map((link) => [link.getAttribute("href"), link.getAttribute("rel"), link.getAttribute("target")]));
  assert.deepEqual(links.map(([href]) => href), ["https://example.com/a?b=1", "https://tracker.example/p.png", "https://plain.example/x"]);
  for (const [, rel, target] of links) assert.deepEqual([rel, target], ["noopener noreferrer nofollow", "_blank"]);
  assert.equal(await page.evaluate(() => window.hit), undefined);
});

test("what the server refuses is said at the field", async ({ page, gateway, allow }) => {
  allow(/status of 400/);
  await mount(page, gateway, "form");
  await page.getByLabel("Id").fill("Not An Id");
  await page.getByRole("button", { name: "Save" }).click();
  await page.getByText(/must be lower-case letters/).waitFor();
  assert.equal(await page.getByLabel("Id").getAttribute("aria-invalid"), "true");
  assert.equal(await page.evaluate(() => document.activeElement?.getAttribute("name")), "id", "the first that is wrong has the focus");
  const described = await page.getByLabel("Name").getAttribute("aria-describedby");
  assert.match(String(await page.locator(`[id="${described}"]`).textContent()), /must be a non-empty string/);
  await page.getByLabel("Id").fill("an-id");
  await page.getByText(/must be lower-case letters/).waitFor({ state: "detached" });
});
