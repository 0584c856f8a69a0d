// How the model chooses its words: controls that most people never need.
import { percent } from "./words.js";

const byId = (id) => document.getElementById(id);
const NUMBERS = ["top_k", "seed", "max_tokens"];

/** The request's fields made from the form's values; what has its default is left out. */
export function samplingFields(values) {
  const fields = {};
  if (Number(values.temperature) > 0) {
    fields.temperature = Number(values.temperature);
    if (Number(values.top_p) < 1) fields.top_p = Number(values.top_p);
  }
  for (const name of NUMBERS) if (values[name]) fields[name] = Number(values[name]);
  if (values.stop) fields.stop = values.stop;
  return fields;
}

/** Brings what is shown in line with the form's values. */
export function showSampling(values) {
  byId("temperature-shown").textContent = Number(values.temperature).toFixed(1);
  byId("top_p-shown").textContent = percent(Number(byId("top_p").value));
  // The likeliest word is the likeliest whatever else is said.
  byId("varied").disabled = Number(values.temperature) === 0;
  byId("sampling-changed").hidden = Object.keys(samplingFields(values)).length === 0;
}

/** Calls `onReset()` after the controls have their defaults again. */
export function watchSampling(onReset) {
  byId("sampling-reset").addEventListener("click", () => {
    for (const field of byId("sampling").querySelectorAll("input")) field.value = field.defaultValue;
    onReset();
  });
}
