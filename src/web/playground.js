// The page: the pictures, the form, the requests under way and their answers, tied together.
import { Problem, apiKey } from "./api.js";
import { Answer } from "./answer.js";
import { Answers } from "./answers.js";
import { showCode, watchCode } from "./code.js";
import { Form, requestOf } from "./form.js";
import { History } from "./history.js";
import { askForKey, watchKey } from "./key.js";
import { Model } from "./model.js";
import { Pictures } from "./pictures.js";
import { showPresets, suggest } from "./presets.js";
import { showProblem } from "./problems.js";
import { RegionPicker } from "./region.js";
import { runAll } from "./run.js";
import { markExample, watchSources } from "./sources.js";
import { Stage } from "./stage.js";
import { TASKS, findsObjects } from "./tasks.js";

const byId = (id) => document.getElementById(id);
const report = (problem) => showProblem(byId("problem"), problem);

let running = null; // the AbortController of the requests under way

const answers = new Answers({
  onShow: (picture) => pictures.show(picture),
  onFilter: () => redraw(),
  onHighlight: (object) => stage.highlight(object),
});
const stage = new Stage(() => answers.refresh());
const region = new RegionPicker(() => form.changed());
const pictures = new Pictures(showPicture);
const history = new History(recall);
const form = new Form({ onRun: run, onChange: formChanged });
const model = new Model({
  onTasks: (tasks) => form.offer(tasks),
  onAdapters: (name, adapters) => form.offerAdapters(name, adapters),
  onKey: () => askForKey(() => keyGiven(() => {})),
});

// --- Pictures -----------------------------------------------------------------------------------

function showPicture(picture) {
  stage.show(picture);
  region.show(picture);
  markExample(picture?.example);
  answers.keep(pictures.list);
  answers.mark(picture);
  showPresets(picture?.example, () => form.changed());
  form.changed();
}

/** Other pictures than before: what was said about those is history. */
function usePictures(picked) {
  stop();
  report(null);
  answers.show([]);
  if (picked[0].example) suggest(picked[0].example);
  pictures.replace(picked);
}

function formChanged() {
  region.offer(TASKS[form.task].parts.includes("region"));
  const marked = pictures.shown?.region ?? null;
  form.limitTo(marked);
  refreshCode();
  redraw();
}

function redraw() {
  const answer = answers.of(pictures.shown);
  stage.draw(answer?.objects ?? [], answer ? answers.shown(answer) : []);
  refreshCode();
}

function refreshCode() {
  const { path, fields } = requestOf(form.values, pictures.shown?.region ?? null);
  if (findsObjects(form.task) && answers.least > 0) fields.min_score = answers.least;
  const fileName = pictures.shown?.name ?? "picture.jpg";
  showCode({ url: location.origin + path, fileName, fields, keyed: apiKey.get() !== "" });
}

// --- Running ------------------------------------------------------------------------------------

async function run() {
  stop();
  report(null);
  const problem = pictures.list.length ? form.problem : noPicture();
  if (problem) return report(problem);
  const { values } = form;
  const asked = pictures.list.map((picture) => ask(picture, values));
  answers.show(asked);
  answers.mark(pictures.shown);
  redraw();
  const controller = new AbortController();
  setRunning(controller);
  const request = (answer) => requestOf(answer.values, answer.region);
  await runAll(asked, { request, model, signal: controller.signal, update });
  if (running === controller) setRunning(null);
  if (asked.some((answer) => answer.problem?.status === 401)) askForKey(() => keyGiven(run));
}

function ask(picture, values) {
  const { task } = values;
  const part = TASKS[task].parts.includes("region") ? picture.region : null;
  const what = TASKS[task].asked(values, part);
  const asked = values.model ? `${values.model}: ${what}` : what;
  return new Answer({ picture, task, asked, values, region: part });
}

function update(answer) {
  answers.update(answer);
  if (answer.picture === pictures.shown && answer.findsObjects) redraw();
  if (answer.ended) history.add(answer);
}

function stop() {
  if (!running) return;
  running.abort();
  for (const answer of answers.all.filter((each) => !each.ended)) {
    answer.stop();
    update(answer);
  }
  setRunning(null);
}

function setRunning(controller) {
  const hadFocus = document.activeElement === byId("stop");
  running = controller;
  byId("stop").hidden = controller === null;
  if (hadFocus && !controller) byId("run").focus(); // a button that vanishes must not take the focus with it
}

function noPicture() {
  return new Problem({ title: "No picture yet", detail: "Choose one first." });
}

function keyGiven(next) {
  refreshCode();
  model.load();
  next();
}

/** Shows an earlier answer again, with its picture and what was asked. */
function recall(answer) {
  stop();
  report(null);
  answer.picture.region = answer.region;
  if (pictures.list.includes(answer.picture)) pictures.show(answer.picture);
  else pictures.replace([answer.picture]);
  form.values = answer.values;
  answers.show([answer]);
  answers.mark(answer.picture);
  redraw();
  byId("stage").scrollIntoView({ block: "nearest" });
}

// --- Wiring -------------------------------------------------------------------------------------

document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !event.target.closest("#key-form")) {
    event.preventDefault(); // else a field of the form would submit it a second time
    run();
  }
});
byId("stop").addEventListener("click", stop);
window.addEventListener("pagehide", stop); // browsers keep the page they leave, with its requests still running
if (/Mac|iPhone|iPad/.test(navigator.platform)) byId("modifier").textContent = "⌘";

watchKey();
watchCode((words) => (byId("spoken").textContent = words));
watchSources({
  onPick: usePictures,
  onAdd: (added) => pictures.add(added),
  onProblem: report,
});
form.changed();
model.load();
