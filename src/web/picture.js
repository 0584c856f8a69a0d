// The source of the picture: a chosen, dropped or pasted file, or an example.
import { EXAMPLES } from "./tasks.js";

const byId = (id) => document.getElementById(id);

/** Calls `onPick({name, blob, example})` whenever a picture is picked, `onFail(name)` if an example isn't there. */
export function watchPictures({ onPick, onFail }) {
  let picks = 0; // an example that arrives late must not replace what was picked after it
  const pick = (file) => file && ++picks && onPick({ name: file.name || "pasted.png", blob: file, example: null });
  watchChooser(pick);
  watchDrops(pick);
  watchPaste(pick);
  const load = async (example) => {
    const mine = ++picks;
    const picture = await loadExample(example).catch(() => null);
    if (mine !== picks) return;
    if (picture) onPick(picture);
    else onFail(example.name);
  };
  byId("examples").append(...EXAMPLES.map((example) => thumbnail(example, load)));
  load(EXAMPLES[0]); // so that there is something to ask about at once
}

/** Marks the example in use, for eyes and for screen readers. */
export function markExample(example) {
  for (const button of byId("examples").querySelectorAll("button")) {
    button.setAttribute("aria-pressed", String(button.dataset.name === example?.name));
  }
}

/** The picture as JSON carries it: a `data:` URL. */
export async function encode(blob) {
  const url = await asDataUrl(blob);
  // Browsers derive the type from the file's name and don't know them all; with plain base64 the server detects it.
  return blob.type.startsWith("image/") ? url : url.slice(url.indexOf(",") + 1);
}

function asDataUrl(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(blob);
  });
}

function watchChooser(pick) {
  const chooser = byId("file");
  chooser.addEventListener("change", () => {
    pick(chooser.files[0]);
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
    pick(event.dataTransfer.files[0]);
  });
}

function watchPaste(pick) {
  window.addEventListener("paste", (event) => {
    const file = event.clipboardData?.files[0];
    if (!file) return; // text, meant for the field that has the focus
    event.preventDefault();
    pick(file);
  });
}

async function loadExample(example) {
  const response = await fetch(`/examples/${example.name}`);
  if (!response.ok) throw new Error(`no example ${example.name}`);
  return { name: example.name, blob: await response.blob(), example };
}

function thumbnail(example, load) {
  const item = document.createElement("li");
  const button = document.createElement("button");
  const image = new Image();
  image.src = `/examples/${example.name}`;
  image.alt = "";
  button.type = "button";
  button.title = example.name;
  button.dataset.name = example.name;
  button.setAttribute("aria-label", `Example: ${example.about}`);
  button.setAttribute("aria-pressed", "false");
  button.append(image);
  button.addEventListener("click", () => load(example));
  item.append(button);
  return item;
}
