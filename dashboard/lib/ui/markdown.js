import { html } from "../preact.js";
import { Code } from "./basics.js";

/**
 * Text of a model, as nodes: whatever it holds, none of it becomes markup. Headings, lists, quotes, tables, code, emphasis, links
 * to http(s) only; an image becomes a link to it, because fetching it would tell another host about the reader.
 * @param {{ text: string }} props
 */
export function Markdown({ text }) {
  return html`<div class="markdown">${blocks(String(text ?? "").replaceAll("\r\n", "\n").split("\n"), 0)}</div>`;
}

const DEEPEST = 8;
const ITEM = /^(\s*)([-*+]|\d{1,9}[.)])\s+(.*)$/;

/** @param {string[]} lines @param {number} depth @returns {any[]} */
function blocks(lines, depth) {
  const out = [];
  let at = 0;
  while (at < lines.length) {
    const line = lines[at];
    if (!line.trim()) {
      at += 1;
      continue;
    }
    const fence = /^\s{0,3}(```+|~~~+)\s*([\w+#.-]*)/.exec(line);
    if (fence) {
      const body = [];
      at += 1;
      while (at < lines.length && !lines[at].trim().startsWith(fence[1])) body.push(lines[at++]);
      at += 1;
      out.push(html`<${Code} text=${body.join("\n")} label=${fence[2] ? `${fence[2]} code` : "Code"} />`);
      continue;
    }
    const heading = /^(#{1,6})\s+(.*?)\s*#*$/.exec(line);
    if (heading) {
      // Below the headings of the page.
      out.push(html`<p class=${`heading heading-${heading[1].length}`} role="heading" aria-level=${Math.min(6, heading[1].length + 2)}>${inline(heading[2])}</p>`);
      at += 1;
      continue;
    }
    if (/^\s{0,3}([-*_])(\s*\1){2,}\s*$/.test(line)) {
      out.push(html`<hr />`);
      at += 1;
      continue;
    }
    if (/^\s{0,3}>/.test(line) && depth < DEEPEST) {
      const body = [];
      while (at < lines.length && /^\s{0,3}>/.test(lines[at])) body.push(lines[at++].replace(/^\s{0,3}> ?/, ""));
      out.push(html`<blockquote>${blocks(body, depth + 1)}</blockquote>`);
      continue;
    }
    if (ITEM.test(line) && depth < DEEPEST) {
      const [list, next] = listAt(lines, at, depth);
      out.push(list);
      at = next;
      continue;
    }
    if (line.includes("|") && at + 1 < lines.length && /^\s*\|?\s*:?-+:?\s*(\|\s*:?-+:?\s*)*\|?\s*$/.test(lines[at + 1]) && lines[at + 1].includes("-")) {
      const head = cells(line);
      const body = [];
      at += 2;
      while (at < lines.length && lines[at].includes("|") && lines[at].trim()) body.push(cells(lines[at++]));
      out.push(html`<div class="table-frame" tabindex="0" role="region" aria-label="Table"><table class="table"><thead><tr>${head.map((cell) => html`<th>${inline(cell)}</th>`)}</tr></thead>
        <tbody>${body.map((row) => html`<tr>${head.map((_, column) => html`<td>${inline(row[column] ?? "")}</td>`)}</tr>`)}</tbody></table></div>`);
      continue;
    }
    const body = [];
    while (at < lines.length && lines[at].trim() && !(body.length && begins(lines[at]))) body.push(lines[at++]);
    out.push(html`<p>${body.flatMap((part, index) => (index ? [html`<br />`, ...inline(part)] : inline(part)))}</p>`);
  }
  return out;
}

/** @param {string} line */
function begins(line) {
  return /^\s{0,3}(```|~~~|#{1,6}\s|>)/.test(line) || ITEM.test(line);
}

/** @param {string[]} lines @param {number} at @param {number} depth @returns {[any, number]} */
function listAt(lines, at, depth) {
  const [, indent, marker] = /** @type {RegExpExecArray} */ (ITEM.exec(lines[at]));
  const ordered = /\d/.test(marker);
  /** @type {string[][]} */
  const items = [];
  while (at < lines.length) {
    const item = ITEM.exec(lines[at]);
    if (item && item[1].length <= indent.length && /\d/.test(item[2]) === ordered) {
      items.push([item[3]]);
    } else if (items.length && (/^\s{2,}/.test(lines[at]) || (!lines[at].trim() && /^\s{2,}\S/.test(lines[at + 1] ?? "")))) {
      items[items.length - 1].push(lines[at].replace(/^ {2,4}/, ""));
    } else break;
    at += 1;
  }
  const content = items.map((body) => html`<li>${body.length === 1 ? inline(body[0]) : blocks(body, depth + 1)}</li>`);
  return [ordered ? html`<ol start=${parseInt(marker, 10)}>${content}</ol>` : html`<ul>${content}</ul>`, at];
}

/** @param {string} line */
const cells = (line) => line.trim().replace(/^\||\|$/g, "").split("|").map((cell) => cell.trim());

const INLINE = /(`+)([\s\S]*?[^`])\1(?!`)|!?\[([^\]\n]*)\]\(([^()\s]+)(?:\s+"[^"]*")?\)|\*\*([^*\n]+(?:\*[^*\n]+)*)\*\*|\*([^*\s][^*\n]*)\*|~~([^~\n]+)~~|\b(https?:\/\/[^\s<>()"'`]+[^\s<>()"'`.,;:!?])/g;

/** @param {string} text @returns {any[]} */
function inline(text) {
  const out = [];
  let last = 0;
  for (const match of text.matchAll(INLINE)) {
    out.push(text.slice(last, match.index));
    last = match.index + match[0].length;
    const [whole, , code, label, target, strong, emphasis, struck, url] = match;
    if (code !== undefined) out.push(html`<code>${code}</code>`);
    else if (target !== undefined) out.push(link(target, label || target, whole));
    else if (strong !== undefined) out.push(html`<strong>${inline(strong)}</strong>`);
    else if (emphasis !== undefined) out.push(html`<em>${inline(emphasis)}</em>`);
    else if (struck !== undefined) out.push(html`<s>${inline(struck)}</s>`);
    else out.push(link(url, url, whole));
  }
  out.push(text.slice(last));
  return out.filter((part) => part !== "");
}

/** @param {string} target @param {string} label @param {string} whole shown as it is when the target is not to be followed */
function link(target, label, whole) {
  if (!/^https?:\/\//i.test(target) || !URL.canParse(target)) return whole;
  return html`<a href=${target} target="_blank" rel="noopener noreferrer nofollow">${label}</a>`;
}
