// Where pictures come from: chosen, dropped or pasted files, the camera, and examples.
import { Problem } from "./api.js";
import { watchCamera } from "./camera.js";
import { ACCEPT, objection } from "./filetypes.js";
import { pictureOf, thumbnail } from "./pictures.js";
import { EXAMPLES } from "./presets.js";

const byId = (id) => document.getElementById(id);

/** Calls `onPick(pictures)` or, for those to be added, `onAdd(pictures)`; `onProblem(problem)` if one can't be used. */
export function watchSources({ onPick, onAdd, onProblem }) {
  let picks = 0; // what arrives late must not replace what was picked after it
  const latest = async (loading, use) => {
    const mine = ++picks;
    const { pictures, problem } = await loading;
    if (mine !== picks) return;
    if (pictures.length) use(pictures);
    if (problem) onProblem(problem);
  };
  const pick = (files) => latest(read(files), onPick);
  watchChooser(byId("file"), pick);
  watchChooser(byId("more"), (files) => latest(read(files), onAdd));
  watchDrops(pick);
  watchPaste(pick);
  watchCamera((file) => pick([file]), onProblem);
  const load = (example) => latest(loadExample(example), onPick);
  byId("examples").append(...EXAMPLES.map((example) => exampleItem(example, load)));
  load(EXAMPLES[0]); // so that there is something to ask about at once
}

/** Marks the example in use, for eyes and for screen readers. */
export function markExample(example) {
  for (const button of byId("examples").querySelectorAll("button")) {
    button.setAttribute("aria-pressed", String(button.dataset.name === example?.name));
  }
}

/** Those of the files that are pictures; the first that is none is a problem. */
async function read(files) {
  const all = [...files];
  const objections = await Promise.all(all.map(objection));
  const refused = objections.find(Boolean);
  const fit = all.filter((_, index) => !objections[index]);
  const pictures = fit.map((file) => pictureOf(file.name || "pasted.png", file));
  return { pictures, problem: refused ? new Problem(refused) : null };
}

function watchChooser(chooser, pick) {
  chooser.accept = ACCEPT;
  chooser.addEventListener("change", () => {
    pick([...chooser.files]);
    chooser.value = ""; // else choosing the same file again would not be a change
  });
}

/** The whole window takes drops: a file that misses the frame would make the browser leave this page. */
function watchDrops(pick) {
  const mark = (on) => byId("stage").classList.toggle("dropping", on);
  window.addEventListener("dragover", (event) => {
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    mark(true);
  });
  window.addEventListener("dragleave", (event) => event.relatedTarget ?? mark(false));
  window.addEventListener("drop", (event) => {
    mark(false);
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    pick(event.dataTransfer.files);
  });
}

function watchPaste(pick) {
  window.addEventListener("paste", (event) => {
    const files = event.clipboardData?.files;
    if (!files?.length) return; // text, meant for the field that has the focus
    event.preventDefault();
    pick(files);
  });
}

async function loadExample(example) {
  const response = await fetch(`/examples/${example.name}`).catch(() => null);
  const blob = response?.ok ? await response.blob().catch(() => null) : null;
  if (blob) return { pictures: [pictureOf(example.name, blob, example)], problem: null };
  return { pictures: [], problem: new Problem({ title: "The example can’t be loaded", detail: example.name }) };
}

function exampleItem(example, load) {
  const item = document.createElement("li");
  const button = thumbnail(`/examples/${example.name}`, `Example: ${example.about}`);
  button.dataset.name = example.name;
  button.setAttribute("aria-pressed", "false");
  button.addEventListener("click", () => load(example));
  item.append(button);
  return item;
}
