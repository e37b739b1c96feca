import assert from "node:assert/strict";
import { look, settled, test } from "./fixture.mjs";
import { furnish } from "./world.mjs";

const PAGES = ["", "requests", "sessions", "statistics", "providers", "models", "credentials", "keys", "supervision", "activity", "logs", "settings", "reference", "providers/workstation", "models?tab=virtual&virtual=coder", "activity?tab=audit"];

test("every page after a day of work", async ({ page, gateway, upstream, allow }) => {
  const made = await furnish({ gateway, upstream });
  try {
    for (const name of [...PAGES, `requests/${made.request}?tab=timing`, `requests/${made.failed}`, `sessions/${made.session}`]) {
      await page.goto(`${gateway.url}/${name}`);
      await settled(page);
      await look(page, `day-${name.replace(/[0-9a-f]{8}-[-0-9a-f]+/, "one").replace(/\W+/g, "-") || "home"}`, { axe: "once" });
    }
    // What can be asked for is counted as the page Models counts it.
    const { models } = await gateway.api("GET", "/api/route/models");
    assert.ok(models.length > 15);
    await page.goto(gateway.url);
    const card = page.getByTestId("cards").locator(".card").filter({ hasText: "Models" });
    await card.getByText(String(models.length), { exact: true }).waitFor();
    await card.getByText("to ask for, from 4 providers").waitFor();
    // Every client needs a key here: the snippet has a place for it.
    await page.locator("#snippet").getByText("Bearer qw-YOUR-KEY").waitFor();

    await page.goto(`${gateway.url}/chat?model=hub/deepseek/deepseek-r1`);
    await page.getByRole("textbox", { name: "Message" }).fill("How many primes are there below 200, and how do you know?");
    await page.keyboard.press("Enter");
    await page.getByTestId("facts").getByText("First token").waitFor();
    await page.getByRole("button", { name: "Insert an example" }).click();
    await page.getByRole("textbox", { name: "Message" }).fill("What is the weather in Lisbon?");
    await page.keyboard.press("Enter");
    await page.getByLabel("Result of get_weather").waitFor();
    await page.getByText("Thinking", { exact: true }).first().click();
    await look(page, "day-chat");
    await page.keyboard.press("Control+k");
    await page.getByRole("combobox", { name: "Search commands" }).fill("st");
    await look(page, "day-commands");
    await page.goto(`${gateway.url}/supervision`);
    await settled(page);
    allow(/Failed to load resource|ERR_|status of 50/);
    await gateway.kill();
    await page.getByTestId("lost").waitFor();
    await look(page, "day-connection-lost");
  } finally {
    made.close();
  }
}, { setUp: false, timeout: 400_000 });
