/** @module in which order the targets of a virtual model are tried, in words */

/** @type {Record<string, { label: string, help: string, order: string }>} */
export const STRATEGIES = {
  priority: { label: "In order", help: "The first that is well; the next when it fails.", order: "as they are listed" },
  weighted: { label: "By weight", help: "Each gets its share of the requests.", order: "by their weights" },
  round_robin: { label: "In turn", help: "One after the other.", order: "in turn" },
  least_latency: { label: "The quickest", help: "The one whose first token comes soonest.", order: "the quickest first" },
  least_busy: { label: "The least busy", help: "The one with the fewest requests under way.", order: "the least busy first" },
  cheapest: { label: "The cheapest", help: "The one that costs least, where prices are known.", order: "the cheapest first" },
  sticky: { label: "The same again", help: "A conversation stays with who answered it before.", order: "the one that answered before first" },
};

export const OPTIONS = Object.entries(STRATEGIES).map(([value, { label }]) => ({ value, label }));
