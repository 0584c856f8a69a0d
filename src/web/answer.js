// One answer: what was asked about which picture, and what has come of it so far.
import { findsObjects, textOf } from "./tasks.js";

/** `state` is waiting, queued, running, done, stopped or failed. */
export class Answer {
  state = "waiting";
  /** While it waits for the model: the share that is loaded, or null if nobody knows. */
  loaded = null;
  /** While it is queued: 1 is next. */
  position = 0;
  written = "";
  objects = [];
  result = null;
  done = null;
  problem = null;
  #times = {};

  /** `values` are those of the form. */
  constructor({ picture, task, asked, values, region }) {
    Object.assign(this, { picture, task, asked, values, region });
    this.findsObjects = findsObjects(task);
  }

  get ended() {
    return this.state === "done" || this.state === "stopped" || this.state === "failed";
  }

  /** The text for people; of objects there is none. */
  get text() {
    if (this.findsObjects) return "";
    return this.result ? textOf(this.result) : this.written.trimStart();
  }

  /** What an answer that is not streamed would be. */
  get document() {
    return this.done && { ...this.done, results: [this.result] };
  }

  wait(loaded) {
    this.state = "waiting";
    this.loaded = loaded;
  }

  start() {
    this.state = "running";
    this.#times = { start: performance.now() };
  }

  take({ name, data }) {
    if (name === "queued") this.#queued(data.position);
    if (name === "delta") this.#delta(data.text);
    if (name === "object") this.objects.push(data);
    if (name === "result") this.result = data;
    if (name === "done") this.#finish(data);
  }

  stop() {
    if (!this.ended) this.state = "stopped";
  }

  fail(problem) {
    this.state = "failed";
    this.problem = problem;
  }

  /** Milliseconds until the first token, and in all; null while unknown. */
  get firstToken() {
    return this.#times.first ? this.#times.first - this.#times.start : null;
  }

  get total() {
    return this.#times.end ? this.#times.end - this.#times.start : null;
  }

  /** Tokens per second; null while unknown. The clock starts at the first token, so that one isn't counted. */
  get speed() {
    if (!this.done) return null;
    // If a proxy buffers the stream, everything arrives at once, and only the server knows how long it took.
    const { first = 0, last = 0 } = this.#times;
    const elapsed = Math.max(last - first, this.done.timings.decode_ms);
    const tokens = this.done.usage.completion_tokens;
    return tokens < 2 || elapsed <= 0 ? null : (tokens - 1) / (elapsed / 1000);
  }

  #queued(position) {
    this.state = position > 0 ? "queued" : "running";
    this.position = position;
  }

  #delta(text) {
    this.state = "running";
    this.position = 0;
    this.written += text;
    const now = performance.now();
    this.#times.first ??= now;
    this.#times.last = now;
  }

  #finish(done) {
    this.done = done;
    this.state = "done";
    this.#times.end = performance.now();
  }
}
