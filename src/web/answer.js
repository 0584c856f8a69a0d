// The answer: its streamed text, its objects, and the timings.
import { Overlay, colourOf } from "./overlay.js";
import { findsObjects, textOf } from "./tasks.js";

const byId = (id) => document.getElementById(id);

export class Answer {
  #overlay = new Overlay(byId("overlay"), byId("image"));
  #task = "";
  #count = 0;
  #times = {};

  reset() {
    this.#overlay.clear();
    this.#count = 0;
    this.#times = {};
    for (const id of ["text", "objects-found", "raw-text"]) byId(id).replaceChildren();
    byId("raw").hidden = byId("figures").hidden = true;
    for (const id of ["first-token", "speed", "tokens", "total"]) byId(id).textContent = "–";
    this.#hint("It appears here while it is written.");
  }

  start(task) {
    this.#task = task;
    this.#times = { start: performance.now() };
    byId("raw").hidden = !findsObjects(task);
    byId("figures").hidden = false;
    this.#hint("Looking at the picture…");
    this.say("Running");
  }

  take({ name, data }) {
    if (name === "delta") this.#delta(data);
    if (name === "object") this.#object(data);
    if (name === "result") this.#result(data);
    if (name === "done") this.#done(data);
  }

  stopped() {
    this.#hint("Stopped.");
    this.say("Stopped");
  }

  failed() {
    byId("figures").hidden = byId("first-token").textContent === "–";
    const begun = this.#count > 0 || byId("text").textContent !== "";
    this.#hint(begun ? "Not complete:" : "No answer.");
  }

  /** For screen readers only. */
  say(words) {
    byId("spoken").textContent = words;
  }

  #delta({ text }) {
    const now = performance.now();
    this.#times.first ??= now;
    this.#times.last = now;
    byId("first-token").textContent = duration(this.#times.first - this.#times.start);
    const objects = findsObjects(this.#task);
    this.#hint(objects && this.#count === 0 ? "Writing down where things are…" : "");
    const place = byId(objects ? "raw-text" : "text");
    place.append(place.textContent === "" ? text.trimStart() : text);
  }

  #object(object) {
    const index = this.#count++;
    this.#hint("");
    this.#overlay.add(object);
    byId("objects-found").append(this.#row(object, index));
  }

  #row({ label, box, score }, index) {
    const row = document.createElement("li");
    const number = span("number", String(index + 1));
    number.style.backgroundColor = colourOf(index);
    const corners = [box.x0, box.y0, box.x1, box.y1].map(Math.round);
    const place = span("place", `${corners[0]}, ${corners[1]} – ${corners[2]}, ${corners[3]}`);
    place.title = "left, top – right, bottom, in pixels of the picture";
    row.append(number, span("name", label), place, span("score", score.toFixed(2)));
    row.lastChild.title = "score: how likely the model found these tokens";
    row.addEventListener("pointerenter", () => this.#overlay.highlight(index));
    row.addEventListener("pointerleave", () => this.#overlay.highlight(null));
    return row;
  }

  #result(result) {
    if (findsObjects(this.#task)) return this.#objectsResult(result);
    const text = textOf(result);
    byId("text").textContent = text;
    this.#hint(remark(text));
    this.say(text.trim() || "The model had nothing to say.");
  }

  #objectsResult({ objects, dropped }) {
    const names = objects.map((object) => object.label).join(", ");
    const count = `${objects.length} ${objects.length === 1 ? "object" : "objects"}`;
    const left = dropped?.length ? ` ${dropped.length} piece${dropped.length === 1 ? "" : "s"} of the answer made no object.` : "";
    byId("raw").hidden = byId("raw-text").textContent === "";
    this.#hint(objects.length === 0 ? `Nothing of that was found.${left}` : (left || this.#overlay.remark).trim());
    this.say(objects.length === 0 ? `Nothing of that was found.${left}` : `${count} found: ${names}.${left}`);
  }

  #done({ usage, timings }) {
    const tokens = usage.completion_tokens;
    byId("tokens").textContent = String(tokens);
    byId("total").textContent = duration(performance.now() - this.#times.start);
    byId("speed").textContent = speed(tokens, this.#times, timings);
  }

  #hint(words) {
    byId("hint").textContent = words;
    byId("hint").hidden = words === "";
  }
}

function remark(text) {
  if (text.trim() === "") return "The model had nothing to say.";
  // Only a free prompt shows the tokens of boxes and masks.
  if (/<(loc|seg)\d+>/.test(text)) return "These are places in the picture, as the model writes them. Detect and Segment draw them.";
  return "";
}

/** The clock starts at the first token, so that token isn't counted. */
function speed(tokens, { first, last }, timings) {
  // If a proxy buffers the stream, everything arrives at once, and only the server knows how long it took.
  const elapsed = Math.max((last ?? 0) - (first ?? 0), timings.decode_ms);
  if (tokens < 2 || elapsed <= 0) return "–";
  return `${((tokens - 1) / (elapsed / 1000)).toFixed(elapsed < 100 ? 0 : 1)} tokens/s`;
}

function duration(ms) {
  return ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(2)} s`;
}

function span(className, text) {
  const made = document.createElement("span");
  made.className = className;
  made.textContent = text;
  return made;
}
