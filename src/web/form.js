// The form: what is asked of the model.
import { Problem } from "./api.js";
import { fillLanguages } from "./languages.js";
import { samplingFields, showSampling, watchSampling } from "./sampling.js";
import { TASKS, missing } from "./tasks.js";

const byId = (id) => document.getElementById(id);

export class Form {
  #form = byId("form");
  #onChange;

  /** `onRun()` when the form is sent; `onChange()` when a value has changed. */
  constructor({ onRun, onChange }) {
    this.#onChange = onChange;
    fillLanguages(byId("language"));
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      onRun();
    });
    this.#form.addEventListener("input", () => this.changed());
    watchSampling(() => this.changed());
  }

  get task() {
    return this.#form.elements.task.value;
  }

  get values() {
    return Object.fromEntries(new FormData(this.#form));
  }

  /** Puts values back that the form had before. */
  set values(values) {
    for (const [name, value] of Object.entries(values)) {
      const field = this.#form.elements.namedItem(name); // `elements.length` is not the field of that name
      if (field) field.value = value;
    }
    this.changed();
  }

  /** Shows the fields of the task, and follows with `onChange()`. */
  changed() {
    const { parts } = TASKS[this.task];
    for (const part of this.#form.querySelectorAll("[data-field]")) part.hidden = !parts.includes(part.dataset.field);
    byId("language-note").hidden = byId("language").value === "en";
    showSampling(this.values);
    this.#onChange();
  }

  /** A part of a picture is described in one way only. */
  limitTo(region) {
    if (this.task !== "caption") return;
    for (const name of ["length", "language"]) this.#form.querySelector(`[data-field=${name}]`).hidden = region !== null;
  }

  /** Offers these tasks, all of them if it is null, and in any case prompts of one's own. */
  offer(tasks) {
    const radios = [...this.#form.elements.task];
    const known = (task) => tasks === null || task === "generate" || tasks.includes(task);
    for (const radio of radios) radio.parentElement.hidden = !known(radio.value);
    const offered = radios.filter((radio) => !radio.parentElement.hidden);
    if (offered.some((radio) => radio.checked)) return;
    offered[0].checked = true;
    this.changed();
  }

  /** Lets the model or one of its adapters answer, if it has any. */
  offerAdapters(model, adapters) {
    const option = (name, value) => new Option(name, value);
    byId("model").replaceChildren(option(model, ""), ...adapters.map((name) => option(name, name)));
    byId("adapters").hidden = adapters.length === 0;
  }

  /** Why the form can't be sent, in plain words; null if it can. */
  get problem() {
    const wrong = this.#form.querySelector("input:invalid");
    if (!wrong) return missing(this.values);
    const label = wrong.labels[0].firstChild.textContent.trim();
    if (byId("sampling").contains(wrong)) byId("sampling").open = true;
    wrong.focus();
    return new Problem({ title: `“${label}” can’t be used`, detail: wrong.validationMessage });
  }
}

/** The request that these values make, about a picture with that region. */
export function requestOf(values, region) {
  const { path, fields } = TASKS[values.task];
  const model = values.model ? { model: values.model } : {};
  return { path, fields: { ...fields(values, region), ...samplingFields(values), ...model } };
}
