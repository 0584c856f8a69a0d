// The answers on view: one for each picture that was asked about.
import { copyText } from "./code.js";
import { colourOf } from "./drawing.js";
import { showProblem } from "./problems.js";
import { saveJson, saveMask, savePicture } from "./save.js";
import { duration, hint, percent, spoken } from "./words.js";

const byId = (id) => document.getElementById(id);
const say = (words) => (byId("spoken").textContent = words);

export class Answers {
  #views = [];
  #watch;
  least = 0;

  /** `watch.onShow(picture)` when an answer's picture is chosen, `watch.onFilter()`, `watch.onHighlight(object)`. */
  constructor(watch) {
    this.#watch = watch;
    const slider = byId("least");
    slider.addEventListener("input", () => {
      this.least = Number(slider.value);
      this.refresh();
      watch.onFilter();
    });
  }

  get all() {
    return this.#views.map((view) => view.answer);
  }

  of(picture) {
    return this.all.find((answer) => answer.picture === picture) ?? null;
  }

  /** The objects of which the model is sure enough. */
  shown(answer) {
    return answer.objects.filter((object) => object.score >= this.least);
  }

  show(answers) {
    const several = answers.length > 1;
    this.#views = answers.map((answer) => new View(answer, several, this, this.#watch));
    byId("answers").replaceChildren(...this.#views.map((view) => view.element));
    byId("idle").hidden = answers.length > 0;
    this.refresh();
  }

  /** Of pictures that are no longer there, nothing stays on view. */
  keep(pictures) {
    const left = this.all.filter((answer) => pictures.includes(answer.picture));
    if (left.length < this.all.length) this.show(left);
  }

  mark(picture) {
    for (const view of this.#views) view.mark(view.answer.picture === picture);
  }

  refresh() {
    for (const view of this.#views) view.refresh();
    const objects = this.all.flatMap((answer) => answer.objects);
    byId("sureness").hidden = objects.length === 0;
    byId("least-shown").textContent = percent(this.least);
  }

  /** Refreshes one answer's view, and tells screen readers what is new. */
  update(answer) {
    this.refresh();
    if (answer.state === "running" && answer.written) return; // spoken when it is complete
    const words = spoken(answer, this.shown(answer));
    if (byId("spoken").textContent !== words) say(words);
  }
}

/** One answer on the page. */
class View {
  #answers;
  #watch;
  #rows = [];

  constructor(answer, several, answers, watch) {
    this.answer = answer;
    this.#answers = answers;
    this.#watch = watch;
    this.element = byId("answer-view").content.firstElementChild.cloneNode(true);
    this.#named(several);
    this.#find(".keep").addEventListener("click", ({ target }) => this.#keep(target));
  }

  refresh() {
    const { answer } = this;
    const shown = this.#answers.shown(answer);
    const words = hint(answer, shown);
    this.element.classList.toggle("running", !answer.ended);
    this.#find(".hint").textContent = words;
    this.#find(".hint").hidden = words === "";
    this.#find(".text").textContent = answer.text;
    this.#showObjects(shown);
    this.#find(".raw").hidden = !answer.findsObjects || answer.written === "";
    this.#find(".raw pre").textContent = answer.written.trimStart();
    if (answer.problem) showProblem(this.#find(".problem"), answer.problem);
    this.#showKeep(shown);
    this.#showFigures();
  }

  mark(shown) {
    this.element.classList.toggle("shown", shown);
    this.#find(".which").setAttribute("aria-pressed", String(shown));
  }

  #find(selector) {
    return this.element.querySelector(selector);
  }

  /** Several answers are told apart by their pictures. */
  #named(several) {
    const { picture } = this.answer;
    this.#find("h3").hidden = !several;
    if (!picture.unseen) this.#find(".which img").src = picture.url;
    this.#find(".which span").textContent = picture.name;
    this.#find(".which").addEventListener("click", () => this.#watch.onShow(picture));
  }

  #showObjects(shown) {
    const { objects } = this.answer;
    for (let index = this.#rows.length; index < objects.length; index++) this.#rows.push(this.#row(objects[index], index));
    this.#find(".found").replaceChildren(...this.#rows.filter((_, index) => shown.includes(objects[index])));
  }

  #row(object, index) {
    const row = document.createElement("li");
    const number = span("number", String(index + 1));
    number.style.backgroundColor = colourOf(index);
    const { x0, y0, x1, y1 } = object.box;
    const [left, top, right, bottom] = [x0, y0, x1, y1].map(Math.round);
    const place = span("place", `${left}, ${top} – ${right}, ${bottom}`);
    place.title = "left, top – right, bottom, in pixels of the picture";
    const sure = span("sure", `${percent(object.score)} sure`);
    row.append(number, span("name", object.label), place, sure);
    row.addEventListener("pointerenter", () => this.#watch.onHighlight(object));
    row.addEventListener("pointerleave", () => this.#watch.onHighlight(null));
    return row;
  }

  #showKeep(shown) {
    const { answer } = this;
    const offered = {
      text: answer.text !== "",
      picture: shown.length > 0 && !answer.picture.unseen,
      mask: shown.some((object) => object.mask) && !answer.picture.unseen,
      json: answer.document !== null,
    };
    for (const button of this.#find(".keep").children) button.hidden = !offered[button.dataset.keep];
    this.#find(".keep").hidden = !answer.ended || !Object.values(offered).includes(true);
  }

  async #keep(button) {
    const { answer } = this;
    const shown = this.#answers.shown(answer);
    switch (button.dataset.keep) {
      case "text": return copyText(button, this.#find(".text"), say);
      case "picture": return savePicture(answer, shown);
      case "mask": return saveMask(answer, shown);
      case "json": return saveJson(answer);
    }
  }

  #showFigures() {
    const { firstToken, speed, total, done } = this.answer;
    const figure = (name, value, words) => (this.#find(`.${name}`).textContent = value === null ? "–" : words(value));
    this.#find(".figures").hidden = firstToken === null;
    figure("first-token", firstToken, duration);
    figure("speed", speed, (value) => `${value.toFixed(value < 100 ? 1 : 0)} tokens/s`);
    figure("tokens", done?.usage.completion_tokens ?? null, String);
    figure("total", total, duration);
  }
}

function span(className, text) {
  const made = document.createElement("span");
  made.className = className;
  made.textContent = text;
  return made;
}
