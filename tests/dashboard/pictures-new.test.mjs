import { look, settled, test } from "./fixture.mjs";

const PAGES = ["", "chat", "requests", "sessions", "statistics", "providers", "models", "credentials", "keys", "supervision", "activity", "logs", "settings", "reference"];

test("every page before anything was set up, the gateway stopped", async ({ page, gateway }) => {
  for (const name of PAGES) {
    await page.goto(`${gateway.url}/${name}`);
    await settled(page);
    await look(page, `new-${name || "home"}`, { axe: "once" });
  }
}, { setUp: false, gateway: ["--no-gateway"], timeout: 240_000 });
