/**
 * What is sent with every question: the model, the system prompt, parameters and tools.
 * @module
 */
import { ModelPicker } from "../../lib/model-picker.js";
import { html } from "../../lib/preact.js";
import { settings, useShared } from "../../lib/store.js";
import { Button, Field } from "../../lib/ui.js";
import { change, setup, wrongWith } from "./state.js";

const EXAMPLE = JSON.stringify(
  [{ type: "function", function: { name: "get_weather", description: "The weather of a city", parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] } } }],
  null,
  2,
);

export function Setup() {
  useShared(settings);
  const now = setup.value;
  const usual = settings.data.value?.settings.active_model;
  const field = (/** @type {keyof import("./state.js").Setup} */ name) => ({ name, value: now[name], onInput: (/** @type {any} */ value) => change({ [name]: value }) });
  const wrong = (/** @type {"tools" | "more"} */ name) => wrongWith(name, now[name]) ?? undefined;
  return html`<div class="stack chat-setup">
    <${ModelPicker} value=${now.model} onChange=${(/** @type {string} */ model) => change({ model })} placeholder=${usual ? `Default: ${usual}` : "Default model"} />
    <${Field} ...${field("system")} type="textarea" label="System prompt" rows="4" placeholder="How the model should behave" />
    <div class="fields chat-numbers">
      <${Field} ...${field("temperature")} type="number" label="Temperature" min="0" max="2" step="0.1" placeholder="default" />
      <${Field} ...${field("top_p")} type="number" label="Top p" min="0" max="1" step="0.05" placeholder="default" />
      <${Field} ...${field("max_tokens")} type="number" label="Max. tokens" min="1" step="1" placeholder="default" />
      <${Field} ...${field("reasoning_effort")} type="select" label="Thinking" options=${[{ value: "", label: "Default" }, "none", "minimal", "low", "medium", "high"]} />
    </div>
    <${Field} ...${field("tools")} type="textarea" class="mono" label="Tools (JSON)" rows=${now.tools ? 8 : 3} error=${wrong("tools")} spellcheck=${false} placeholder="[{ type: function, … }]"
      help="Declarations as in OpenAI's API. Calls are shown; you type their results." />
    ${!now.tools && html`<div><${Button} small onClick=${() => change({ tools: EXAMPLE })}>Insert an example<//></div>`}
    <${Field} ...${field("more")} type="textarea" class="mono" label="Other parameters (JSON)" rows="2" error=${wrong("more")} spellcheck=${false} placeholder='{ "seed": 1 }' />
    <div><${Field} ...${field("stream")} type="checkbox" label="Stream the answer" />
      <${Field} ...${field("record")} type="checkbox" label="Record it, to replay its stream later" /></div>
  </div>`;
}
