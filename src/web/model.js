// The model: what it is, what it can do, and whether it is there yet.
import { getModels, getReady } from "./api.js";
import { percent } from "./words.js";

const byId = (id) => document.getElementById(id);
const PAUSE = 1000; // milliseconds between two looks while it loads

/** Names for people. */
const WEIGHTS = { q8_0: "8-bit weights", q4k: "4-bit weights", bf16: "16-bit weights", f16: "16-bit weights", f32: "32-bit weights" };

export class Model {
  #onTasks;
  #onAdapters;
  #onKey;
  /** Resolves when the model is there; null when nobody has asked yet, or it went away. */
  #arrival = null;
  #followers = new Set();
  /** The share that is loaded, null if the server doesn't say; undefined unless the model is loading. */
  #loaded;

  /**
   * `onTasks(tasks)` says which tasks it can do, null for all; `onAdapters(model, adapters)` their names;
   * `onKey()` that the server wants a key.
   */
  constructor({ onTasks, onAdapters, onKey }) {
    this.#onTasks = onTasks;
    this.#onAdapters = onAdapters;
    this.#onKey = onKey;
  }

  /** Asks what the model is, and again until the server answers. */
  async load() {
    try {
      const models = await getModels();
      const [model] = models;
      describe([model.id, ...facts(model)], model.description);
      this.#onTasks(model.tasks ?? null);
      this.#onAdapters(model.id, models.filter(({ parent }) => parent).map(({ id }) => id));
      this.ready(null, () => {}).catch((error) => describe([error.title], error.detail));
    } catch (error) {
      describe([error.title ?? "The model is unknown"], "");
      if (error.status === 401) this.#onKey();
      else if (error.status === 503 || error.code === "unreachable") setTimeout(() => this.load(), PAUSE);
    }
  }

  /** Resolves when the model is there. Until then `onProgress` is told the share that is loaded, null if unknown. */
  async ready(signal, onProgress) {
    this.#arrival ??= this.#wait();
    if (this.#loaded !== undefined) onProgress(this.#loaded);
    this.#followers.add(onProgress);
    try {
      await Promise.race([this.#arrival, aborted(signal)]);
    } finally {
      this.#followers.delete(onProgress);
    }
  }

  /** The server said that the model is not there (any more). */
  away({ loaded }) {
    this.#arrival = null;
    this.#tell(loaded);
  }

  async #wait() {
    try {
      for (;;) {
        const problem = await getReady();
        if (!problem) break;
        this.#tell(problem.loaded);
        await new Promise((resolve) => setTimeout(resolve, PAUSE));
      }
    } catch (error) {
      this.#arrival = null; // ask again next time
      throw error;
    } finally {
      this.#loaded = undefined;
      byId("loading").hidden = true;
    }
  }

  #tell(loaded) {
    this.#loaded = loaded;
    showLoading(loaded);
    for (const follower of this.#followers) follower(loaded);
  }
}

function aborted(signal) {
  return new Promise((_, reject) => {
    signal?.addEventListener("abort", () => reject(signal.reason));
    if (signal?.aborted) reject(signal.reason);
  });
}

function showLoading(loaded) {
  byId("loading").hidden = false;
  const words = loaded === null ? "The model is loading" : `The model is loading: ${percent(loaded)}`;
  document.querySelector("[for=loaded]").textContent = words;
  if (loaded === null) byId("loaded").removeAttribute("value");
  else byId("loaded").value = loaded;
}

function facts({ device, dtype }) {
  const where = device === "cpu" ? "CPU" : device?.startsWith("cuda") ? "GPU" : device;
  return [where, WEIGHTS[dtype] ?? dtype].filter(Boolean);
}

function describe([name, ...facts], about) {
  const strong = document.createElement("strong");
  strong.textContent = name;
  byId("model-name").replaceChildren(strong, ...facts.map((fact) => ` · ${fact}`));
  byId("model-about").textContent = about ?? "";
  byId("model-about").hidden = !about;
}
