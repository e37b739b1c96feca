/**
 * The one place pages import the rendering libraries from: `html` templates, hooks and signals.
 * @module
 */
import htm from "../vendor/htm.js";
import { h } from "../vendor/preact.js";

export { Component, Fragment, h, render } from "../vendor/preact.js";
export { useCallback, useEffect, useId, useLayoutEffect, useMemo, useRef, useState } from "../vendor/preact-hooks.js";
export { batch, computed, effect, signal, useComputed, useSignal, useSignalEffect } from "../vendor/signals.js";

/**
 * @typedef {import("../vendor/preact.js").ComponentChildren} Children
 * @typedef {import("../vendor/preact.js").VNode<any>} Node
 */
/** @template T @typedef {import("../vendor/signals.js").Signal<T>} Signal */
/** @template T @typedef {import("../vendor/signals.js").ReadonlySignal<T>} ReadonlySignal */

/** Tagged template: html`<p class="x">${value}</p>`. Values are text or nodes, never markup. */
export const html = /** @type {(strings: TemplateStringsArray, ...values: any[]) => any} */ (htm.bind(/** @type {any} */ (h)));
