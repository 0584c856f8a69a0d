// The page's state: the picture, the task, and the running request, if any.
import { Problem, apiKey, getModels, stream } from "./api.js";
import { showCode, watchCode } from "./code.js";
import { Answer } from "./answer.js";
import { encode, markExample, watchPictures } from "./picture.js";
import { TASKS } from "./tasks.js";

const byId = (id) => document.getElementById(id);
const form = byId("form");
const answer = new Answer();

let picture = null;
let running = null; // the AbortController of the running request
let afterKey = loadModel; // what to try again once a key has been given

// --- The form -----------------------------------------------------------------------------------

function request() {
  const values = Object.fromEntries(new FormData(form));
  const task = TASKS[values.task];
  return { task: values.task, path: task.path, fields: task.fields(values) };
}

function showFields() {
  const { field } = TASKS[form.elements.task.value];
  for (const part of form.querySelectorAll("[data-field]")) part.hidden = part.dataset.field !== field;
}

function refreshCode() {
  const { path, fields } = request();
  const fileName = picture?.name ?? "picture.jpg";
  showCode({ url: location.origin + path, fileName, fields, keyed: apiKey.get() !== "" });
}

/** Examples suggest fitting questions, which never replace what the user typed. */
function suggest(suggestions) {
  for (const [name, text] of Object.entries(suggestions)) {
    const field = byId(name);
    if (field.value === (field.dataset.suggested ?? "")) field.value = text;
    if (field.value === text) field.dataset.suggested = text;
  }
}

// --- The picture --------------------------------------------------------------------------------

function usePicture(picked) {
  stop();
  answer.reset();
  showProblem(null);
  picture = picked;
  showPicture(picked);
  markExample(picked.example);
  if (picked.example) suggest(picked.example.suggestions);
  refreshCode();
}

function showPicture({ name, blob, example }) {
  const image = byId("image");
  if (image.src) URL.revokeObjectURL(image.src);
  byId("frame").hidden = false;
  byId("no-image").hidden = true;
  image.alt = example ? `The picture: ${example.about}` : `The picture: ${name}`;
  image.src = URL.createObjectURL(blob);
  byId("file-name").textContent = name;
}

/** Small pictures are enlarged as well: the frame needs their proportion, since its width follows from its height. */
function fitFrame({ target: image }) {
  byId("frame").style.setProperty("--ratio", image.naturalWidth / image.naturalHeight);
}

/** The server reads formats that browsers don't, such as TIFF, and explains best why a file is not a picture. */
function showNoPreview() {
  byId("frame").hidden = true;
  byId("no-image").hidden = false;
  byId("no-image").textContent = "This browser can’t show this file, but the server may read it: just ask.";
}

// --- Running ------------------------------------------------------------------------------------

async function run() {
  stop();
  showProblem(null);
  answer.reset();
  if (!picture) return showProblem(new Problem({ title: "No picture yet", detail: "Choose, drop or paste one first." }));
  const controller = new AbortController();
  setRunning(controller);
  const { task, path, fields } = request();
  try {
    const image = await encode(picture.blob);
    answer.start(task);
    for await (const event of stream(path, { image, ...fields }, controller.signal)) answer.take(event);
  } catch (error) {
    fail(error, controller);
  } finally {
    if (running === controller) setRunning(null);
  }
}

function stop() {
  if (!running) return;
  running.abort();
  answer.stopped();
  setRunning(null);
}

function setRunning(controller) {
  const hadFocus = document.activeElement === byId("stop");
  running = controller;
  byId("stop").hidden = controller === null;
  document.body.classList.toggle("running", controller !== null);
  if (hadFocus && !controller) byId("run").focus(); // a button that vanishes must not take the focus with it
}

function fail(error, controller) {
  if (controller.signal.aborted) return; // stopped, or replaced by another request: not an error
  answer.failed();
  const problem = error instanceof Problem ? error : unexpected(error);
  if (problem.status === 401) return askForKey(run);
  showProblem(problem);
}

function unexpected(error) {
  return new Problem({ title: "This page failed", detail: String(error.message ?? error) });
}

// --- Problems and the key -----------------------------------------------------------------------

function showProblem(problem) {
  const place = byId("problem");
  place.replaceChildren();
  if (!problem) return;
  const lines = [problem.title, problem.detail, advice(problem), problem.requestId && `Request ${problem.requestId}`];
  const classes = ["problem-title", "", "", "quiet"];
  lines.forEach((line, index) => line && place.append(paragraph(line, classes[index])));
}

function advice({ status, retryAfter }) {
  if (retryAfter) return `Try again in ${retryAfter} ${retryAfter === 1 ? "second" : "seconds"}.`;
  if (status === 429) return "Try again in a moment.";
  if (status === 501) return "Detect finds the boxes without masks.";
  return "";
}

function paragraph(text, className) {
  const made = document.createElement("p");
  // The server's messages put values and field names between backticks.
  text.split("`").forEach((part, index) => made.append(index % 2 ? code(part) : part));
  if (className) made.className = className;
  return made;
}

function code(text) {
  const made = document.createElement("code");
  made.textContent = text;
  return made;
}

function askForKey(next) {
  const refused = apiKey.get() !== "";
  afterKey = next;
  byId("key-form").hidden = false;
  byId("key-title").textContent = refused ? "The server refused this API key" : "This server asks for an API key";
  byId("key").focus();
}

function useKey(event) {
  event.preventDefault();
  apiKey.set(byId("key").value.trim());
  byId("key").value = "";
  byId("key-form").hidden = true;
  byId("run").focus();
  refreshCode();
  if (afterKey !== loadModel) afterKey();
  loadModel();
}

// --- The model ----------------------------------------------------------------------------------

async function loadModel() {
  try {
    const [model] = await getModels();
    showModel([model.id, model.device, model.dtype], model.description);
  } catch (error) {
    failModel(error);
  }
}

function failModel(error) {
  showModel([error.title ?? "The model is unknown"], "");
  if (error.status === 401) return askForKey(loadModel);
  // Ask again while a model is loading or a server is restarting.
  if (error.status === 503 || error.code === "unreachable") setTimeout(loadModel, (error.retryAfter ?? 3) * 1000);
}

function showModel([name, ...facts], description) {
  const strong = document.createElement("strong");
  strong.textContent = name;
  byId("model-name").replaceChildren(strong, ...facts.map((fact) => ` · ${fact}`));
  byId("model-about").textContent = description ?? "";
  byId("model-about").hidden = !description;
}

// --- Wiring -------------------------------------------------------------------------------------

form.addEventListener("submit", (event) => {
  event.preventDefault();
  run();
});
form.addEventListener("input", () => {
  showFields();
  refreshCode();
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !event.target.closest("#key-form")) {
    event.preventDefault(); // else a field of the form would submit it a second time
    run();
  }
});
byId("stop").addEventListener("click", stop);
window.addEventListener("pagehide", stop); // browsers keep the page they leave, with its request still running
byId("image").addEventListener("load", fitFrame);
byId("image").addEventListener("error", showNoPreview);
byId("key-form").addEventListener("submit", useKey);
if (/Mac|iPhone|iPad/.test(navigator.platform)) byId("modifier").textContent = "⌘";

watchCode((words) => answer.say(words));
watchPictures({
  onPick: usePicture,
  onFail: (name) => showProblem(new Problem({ title: "The example can’t be loaded", detail: name })),
});
showFields();
refreshCode();
loadModel();
