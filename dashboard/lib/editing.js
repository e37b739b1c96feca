/**
 * Forms for what others may change meanwhile: they are saved with the version they began with, and a conflict is shown as such.
 * @module
 */
import { ApiError } from "./api.js";
import { html, useRef, useState } from "./preact.js";
import { Button, useForm } from "./ui.js";

/**
 * As `useForm`, for something that has an `etag`. `save` gets the values and what `ifMatch` wants.
 * @param {Record<string, any>} first @param {string | null} etag
 * @param {(values: Record<string, any>, ifMatch: string | null) => Promise<unknown>} save
 */
export function useEditing(first, etag, save) {
  const [isConflict, setConflict] = useState(false);
  const overrides = useRef(false);
  const form = useForm(first, async (values) => {
    setConflict(false);
    try {
      await save(values, overrides.current ? null : etag);
    } catch (error) {
      if (!(error instanceof ApiError) || error.status !== 412) throw error;
      setConflict(true);
    } finally {
      overrides.current = false;
    }
  });
  /** Saves what is in the form, whatever was changed meanwhile. */
  const override = () => (overrides.current = true);
  return { ...form, isConflict, override };
}

/** Stands in a form of `useEditing`: what to do when somebody else was quicker. @param {{ form: any, onReload: () => void }} props */
export function Conflict({ form, onReload }) {
  if (!form.isConflict) return null;
  return html`<div class="conflict" role="alert">
    <p><strong>Somebody changed it while you did.</strong> Nothing was saved. Look at what is stored now and change that, or put yours in its place.</p>
    <div class="actions"><${Button} small onClick=${onReload}>Show what is stored now<//><${Button} small kind="danger" type="submit" onClick=${form.override}>Save mine all the same<//></div>
  </div>`;
}
