import { look, test } from "./fixture.mjs";

test("a crash is seen as it happens, and so is the recovery", async ({ page, gateway }) => {
  await page.goto(`${gateway.url}/supervision`);
  const row = page.getByRole("row").filter({ has: page.locator("[data-actor=router]") });
  await row.getByText("Running").waitFor();
  await page.getByTestId("restarts").filter({ hasText: /^0$/ }).waitFor();
  await gateway.api("POST", "/api/fault/crash/router");
  await page.getByTestId("restarts").filter({ hasText: /^1$/ }).waitFor();
  await row.getByText("Running").waitFor();
  await row.getByText("injected").waitFor();
  await row.getByRole("cell", { name: "1", exact: true }).waitFor();
  const happened = page.getByRole("table", { name: /What happened/ });
  await happened.getByRole("row").filter({ hasText: "router" }).filter({ hasText: "injected" }).first().waitFor();
  await look(page, "supervision");
});

test("an actor is restarted after a question", async ({ page, gateway }) => {
  await page.goto(`${gateway.url}/supervision`);
  const row = page.getByRole("row").filter({ has: page.locator("[data-actor=retention]") });
  await row.getByRole("button", { name: "Restart retention" }).click();
  const dialog = page.getByRole("dialog", { name: "Restart retention?" });
  await look(page, "supervision-restart");
  await dialog.getByRole("button", { name: "Restart" }).click();
  await page.getByText("retention was restarted").waitFor();
  await page.getByTestId("restarts").filter({ hasText: /^1$/ }).waitFor();
  await row.getByText("Running").waitFor();
});

test("sorting is in the address", async ({ page, gateway }) => {
  await gateway.api("POST", "/api/fault/crash/qwen-sessions");
  await page.goto(`${gateway.url}/supervision`);
  await page.getByTestId("restarts").filter({ hasText: /^1$/ }).waitFor();
  const tree = page.getByRole("table", { name: "Actor tree" });
  await tree.getByRole("button", { name: "Restarts" }).click();
  await tree.getByRole("button", { name: "Restarts" }).click();
  await page.waitForURL(/sort=-restarts/);
  await tree.getByRole("row").nth(1).filter({ hasText: "qwen-sessions" }).waitFor();
  await page.reload();
  await tree.getByRole("row").nth(1).filter({ hasText: "qwen-sessions" }).waitFor();
});
