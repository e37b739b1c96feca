/** @module what a key used of its budgets */
import { compact, date, number, plural } from "../../lib/format.js";
import { html } from "../../lib/preact.js";

/** @param {number} amount */
const dollars = (amount) => `$${amount > 0 && amount < 0.01 ? amount.toPrecision(2) : number(amount, 2)}`;

/** @param {number} count */
const tokens = (count) => (count < 100_000 ? number(count) : compact(count));

/** Each budget that is set, with what was used of it. @param {any} key */
export function limitsOf(key) {
  const { today, this_month: month } = key.usage;
  const all = [
    { name: "today", used: today.tokens, most: key.tokens_per_day, show: tokens, unit: "tokens", until: today.resets_at },
    { name: "this month", used: month.tokens, most: key.tokens_per_month, show: tokens, unit: "tokens", until: month.resets_at },
    { name: "today", used: today.cost, most: key.cost_per_day, show: dollars, unit: "", until: today.resets_at },
    { name: "this month", used: month.cost, most: key.cost_per_month, show: dollars, unit: "", until: month.resets_at },
  ];
  return all.filter(({ most }) => most !== null);
}

/** @param {{ of: any }} props */
export function Budget({ of }) {
  const limits = limitsOf(of);
  const { today, this_month: month } = of.usage;
  if (!limits.length) return html`<span title=${`Today ${plural(today.requests, "request")}, this month ${plural(month.requests, "request")}`}>${tokens(month.tokens)} tokens<span class="muted small">${month.cost ? `, ${dollars(month.cost)}` : ""} this month</span></span>`;
  return html`<div class="budgets">${limits.map(({ name, used, most, show, unit, until }) => {
    const part = most > 0 ? Math.min(100, (used / most) * 100) : 100;
    const text = `${show(used)} of ${show(most)}${unit && ` ${unit}`} ${name}`;
    return html`<div key=${`${name} ${unit}`} title=${`Begins anew at ${date(until)}`}><div class=${`meter${part >= 100 ? " meter-bad" : part >= 80 ? " meter-warn" : ""}`} aria-hidden="true"><span style=${{ width: `${part}%` }}></span></div><span class="small">${text}</span></div>`;
  })}</div>`;
}
