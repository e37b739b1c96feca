/**
 * The same question to another model, beside what was answered.
 * @module
 */
import { ApiError, api, segment } from "../../lib/api.js";
import { cost, duration, number } from "../../lib/format.js";
import { ModelPicker } from "../../lib/model-picker.js";
import { html, useEffect, useState } from "../../lib/preact.js";
import { param, setQuery } from "../../lib/router.js";
import { Button, Empty, ErrorState, Field, Loading, Panel } from "../../lib/ui.js";
import { Answer } from "./dialogue.js";

/** The row of a replay is written a moment after its answer. */
const TRIES = 20;
const PAUSE = 150;

/** @param {{ exchange: any, refetch: () => Promise<void> }} props */
export function Compare({ exchange, refetch }) {
  const [model, setModel] = useState(exchange.model);
  const [busy, setBusy] = useState(false);
  const [failure, setFailure] = useState(/** @type {unknown} */ (null));
  const chosen = param("with") || exchange.replays.at(-1) || "";
  const send = async () => {
    setBusy(true);
    setFailure(null);
    try {
      const replayed = await api.post(`/api/requests/${segment(exchange.request_id)}/replay`, model && model !== exchange.model ? { model } : {});
      setQuery({ with: replayed.request_id });
      await refetch();
    } catch (error) {
      setFailure(error);
    } finally {
      setBusy(false);
    }
  };
  return html`<div class="stack">
    <form class="toolbar" onSubmit=${(/** @type {Event} */ event) => {
      event.preventDefault();
      if (!busy) void send();
    }}>
      <div class="grow"><${ModelPicker} value=${model} onChange=${setModel} label="Send it again to" /></div>
      <${Button} type="submit" kind="primary" busy=${busy}>${busy ? "Waiting for the answer" : "Replay"}<//>
      ${exchange.replays.length > 1 && html`<${Field} name="with" label="Compare with" type="select" value=${chosen} onInput=${(/** @type {string} */ value) => setQuery({ with: value })}
        options=${[...exchange.replays].reverse().map((/** @type {string} */ id, /** @type {number} */ at) => ({ value: id, label: at === 0 ? "Latest replay" : `Replay ${exchange.replays.length - at}` }))} />`}
    </form>
    ${failure !== null && html`<${ErrorState} error=${failure} title="It could not be sent again" />`}
    <div class="compare" data-test="compare">
      <${Side} title="Original" exchange=${exchange} />
      ${chosen ? html`<${Other} key=${chosen} id=${chosen} />` : html`<${Panel} title="Replay"><${Empty} title="Not replayed yet">Choose a model and send the same request again. It is a request of its own in the history.<//><//>`}
    </div>
  </div>`;
}

/** @param {{ id: string }} props */
function Other({ id }) {
  const [found, setFound] = useState(/** @type {{ exchange?: any, error?: unknown }} */ ({}));
  useEffect(() => {
    const controller = new AbortController();
    const look = async () => {
      for (let left = TRIES; ; left -= 1) {
        try {
          const exchange = await api.get(`/api/requests/${segment(id)}`, { signal: controller.signal });
          setFound({ exchange });
          if (exchange.response || left === 0) return;
        } catch (error) {
          if (controller.signal.aborted) return;
          if (!(error instanceof ApiError && error.status === 404 && left > 0)) return setFound({ error });
        }
        await new Promise((resolve) => setTimeout(resolve, PAUSE));
        if (controller.signal.aborted) return;
      }
    };
    void look();
    return () => controller.abort();
  }, [id]);
  if (found.error) return html`<${Panel} title="Replay"><${ErrorState} error=${found.error} title="The replay cannot be shown" /><//>`;
  if (!found.exchange) return html`<${Panel} title="Replay"><${Loading} what="Loading the replay" /><//>`;
  return html`<${Side} title="Replay" exchange=${found.exchange} link />`;
}

/** @param {{ title: string, exchange: any, link?: boolean }} props */
function Side({ title, exchange, link = false }) {
  const answer = exchange.response;
  return html`<section class="compare-side" aria-label=${title}>
    <header class="row-between"><h3>${title}: ${answer?.provider ? `${answer.provider}/${answer.upstream_model}` : exchange.model}</h3>${link && html`<a href=${`/requests/${encodeURIComponent(exchange.request_id)}`}>Open</a>`}</header>
    <dl class="compare-numbers"><div><dt>Took</dt><dd>${duration(answer?.duration_ms)}</dd></div><div><dt>Tokens out</dt><dd>${number(answer?.completion_tokens)}</dd></div><div><dt>Cost</dt><dd>${cost(answer?.cost_microusd)}</dd></div><div><dt>Finished</dt><dd>${answer?.finish_reason ?? answer?.error_code ?? "–"}</dd></div></dl>
    <${Answer} exchange=${exchange} />
  </section>`;
}
