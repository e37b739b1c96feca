/**
 * Logs: what the process writes to its log, as it writes it.
 * @module
 */
import { ApiError, api, withQuery } from "../lib/api.js";
import { download } from "../lib/download.js";
import { connection, onReconnect, parser } from "../lib/events.js";
import { number, plural, time } from "../lib/format.js";
import { html, signal, useEffect, useLayoutEffect, useMemo, useRef, useState } from "../lib/preact.js";
import { param, setQuery } from "../lib/router.js";
import { Badge, Button, Empty, ErrorState, Field, Loading, Page, Panel, toast } from "../lib/ui.js";

const LEVELS = ["error", "warn", "info", "debug"];
const SHOWN = [{ value: "error", label: "Errors only" }, { value: "warn", label: "Warnings and errors" }, { value: "info", label: "Without debug lines" }, { value: "debug", label: "Everything" }];
const TONES = /** @type {Record<string, "bad" | "warn" | "info" | "neutral">} */ ({ error: "bad", warn: "warn", info: "info", debug: "neutral", trace: "neutral" });
/** As many as the gateway keeps. */
const MOST = 2_000;

/** @typedef {{ seq: number, at: number, level: string, target: string, message: string, fields: Record<string, any> }} Line */

export default function Logs() {
  const tail = useMemo(follow, []);
  useEffect(() => tail.watch(), [tail]);
  const [paused, setPaused] = useState(/** @type {Line[] | null} */ (null));
  const lines = paused ?? tail.lines.value;
  const level = LEVELS.includes(param("level")) ? param("level") : "debug";
  const wanted = param("q").trim().toLowerCase();
  const found = useMemo(() => (lines ?? []).filter((line) => reaches(line, level) && (!wanted || text(line).toLowerCase().includes(wanted))), [lines, level, wanted]);
  const missed = paused ? (tail.lines.value ?? []).filter(({ seq }) => seq > (paused[paused.length - 1]?.seq ?? 0)).length : 0;
  const setLogged = async (/** @type {string} */ value) => {
    await api.put("/api/settings/logging.level", { value });
    tail.level.value = value;
    toast(`From ${value} on is logged now`);
  };
  const actions = html`<${Button} disabled=${!found.length} onClick=${() => download("qwarden.log", found.map((line) => `${new Date(line.at).toISOString()} ${text(line)}\n`).join(""))}>Download<//>
    <${Button} kind="primary" aria-pressed=${paused ? "true" : "false"} onClick=${() => setPaused(paused ? null : (tail.lines.value ?? []))}>${paused ? `Go on${missed ? ` (${number(missed)} new)` : ""}` : "Pause"}<//>`;
  return html`<${Page} wide title="Logs" lead="The newest lines of this process. All of them go to standard error as well." actions=${actions}>
    <div class="toolbar" role="search" aria-label="Which lines">
      <${Field} name="level" label="Show" type="select" value=${level} options=${SHOWN} onInput=${(/** @type {string} */ value) => setQuery({ level: value === "debug" ? null : value })} />
      <div class="grow"><${Field} name="q" type="search" label="Search" placeholder="Words of a line or its fields" value=${param("q")} onInput=${(/** @type {string} */ q) => setQuery({ q })} /></div>
      <${Field} name="logged" label="Log level" type="select" value=${tail.level.value} options=${LEVELS} onInput=${(/** @type {string} */ value) => setLogged(value).catch(toast.failed)} />
    </div>
    <${Panel} flush>${lines === null
      ? tail.error.value ? html`<${ErrorState} error=${tail.error.value} retry=${tail.again} />` : html`<${Loading} what="Loading the log" />`
      : found.length ? html`<${Lines} lines=${found} follows=${!paused} />` : html`<${Nothing} isFiltered=${lines.length > 0} level=${tail.level.value} />`}
      <p class="log-foot muted small" role="status">${plural(found.length, "line")}${paused ? ", paused" : connection.value === "live" ? ", live" : ", waiting for the connection"}</p><//>
  <//>`;
}

/** @param {{ isFiltered: boolean, level: string }} props */
function Nothing({ isFiltered, level }) {
  return isFiltered
    ? html`<${Empty} title="No line fits" actions=${html`<${Button} onClick=${() => setQuery({ level: null, q: null })}>Show all<//>`} />`
    : html`<${Empty} title="Nothing logged yet">What goes wrong appears here. ${level === "debug" ? "" : "For more, log from debug on."}<//>`;
}

/** @param {{ lines: Line[], follows: boolean }} props */
function Lines({ lines, follows }) {
  const box = useRef(/** @type {HTMLOListElement | null} */ (null));
  const atEnd = useRef(true);
  const top = useRef(0);
  const last = lines[lines.length - 1]?.seq;
  useLayoutEffect(() => {
    const toEnd = () => {
      if (follows && atEnd.current && box.current) box.current.scrollTop = box.current.scrollHeight;
    };
    toEnd();
    // Rows get their height when they come into view.
    const soon = requestAnimationFrame(() => requestAnimationFrame(toEnd));
    return () => cancelAnimationFrame(soon);
  }, [last, lines.length, follows]);
  const scrolled = () => {
    const list = box.current;
    if (!list) return;
    if (list.scrollHeight - list.scrollTop - list.clientHeight < 40) atEnd.current = true;
    else if (list.scrollTop < top.current) atEnd.current = false;
    top.current = list.scrollTop;
  };
  return html`<ol class="log" ref=${box} onScroll=${scrolled} tabindex="0" aria-label="Log lines, newest last">${lines.map((line) => html`<${Row} key=${line.seq} line=${line} />`)}</ol>`;
}

/** @param {{ line: Line }} props */
function Row({ line }) {
  const { at, level, target, message, fields } = line;
  return html`<li class=${`log-line log-${level}`} data-test="line">
    <time class="muted" title=${new Date(at).toISOString()}>${time(at)}</time>
    <${Badge} tone=${TONES[level] ?? "neutral"}>${level}<//>
    <span class="log-words"><span>${message}</span>${Object.entries(fields).map(([name, value]) => html` <span class="log-field"><span class="muted">${name}=</span>${typeof value === "string" ? value : JSON.stringify(value)}</span>`)} <span class="muted log-target">${target}</span></span>
  </li>`;
}

/** A line as it is searched and saved. @param {Line} line */
const text = ({ level, target, message, fields }) => `${level.toUpperCase()} ${target} ${message}${Object.entries(fields).map(([name, value]) => ` ${name}=${typeof value === "string" ? value : JSON.stringify(value)}`).join("")}`;

/** @param {Line} line @param {string} level */
const reaches = (line, level) => level === "debug" || LEVELS.indexOf(line.level) <= LEVELS.indexOf(level) && LEVELS.includes(line.level);

/** The lines that there are, then those that come. After a break it begins anew: the process may be another. */
function follow() {
  const lines = signal(/** @type {Line[] | null} */ (null));
  const error = signal(/** @type {ApiError | null} */ (null));
  const level = signal("info");
  let ending = new AbortController();
  const read = async (/** @type {AbortSignal} */ signal) => {
    try {
      const known = await api.get("/api/logs", { signal });
      lines.value = known.lines;
      level.value = known.level;
      error.value = null;
      const after = known.lines[known.lines.length - 1]?.seq ?? 0;
      const response = await fetch(withQuery("/api/logs/live", { after }), { signal, headers: { accept: "text/event-stream" }, credentials: "same-origin" });
      if (!response.ok || !response.body) throw new ApiError(response.status, { message: "the log cannot be followed" });
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      /** @type {Line[]} */
      let coming = [];
      const take = parser(({ type, data }) => type === "log" && coming.push(data));
      for (;;) {
        const { done, value } = await reader.read();
        if (done) break;
        take(value);
        if (coming.length) lines.value = [...(lines.value ?? []), ...coming].slice(-MOST);
        coming = [];
      }
    } catch (caught) {
      if (!signal.aborted && lines.value === null) error.value = caught instanceof ApiError ? caught : new ApiError(0, { message: "the log cannot be read" });
    }
  };
  const again = () => {
    ending.abort();
    ending = new AbortController();
    return read(ending.signal);
  };
  const watch = () => {
    void again();
    const end = onReconnect(() => void again());
    return () => (end(), ending.abort());
  };
  return { lines, error, level, again, watch };
}
