// Answers of this session, latest first. They live as long as the page.
import { thumbnail } from "./pictures.js";
import { summary } from "./words.js";

const byId = (id) => document.getElementById(id);
const MOST = 50;

export class History {
  #answers = [];
  #onRecall;

  /** `onRecall(answer)` follows when one is chosen. */
  constructor(onRecall) {
    this.#onRecall = onRecall;
    byId("forget").addEventListener("click", () => {
      this.#answers = [];
      byId("entries").replaceChildren();
      byId("history").hidden = true;
      byId("run").focus(); // a button that vanishes must not take the focus with it
    });
  }

  /** Keeps an answer that has ended, unless nothing was said. */
  add(answer) {
    if (this.#answers.includes(answer) || (answer.state !== "done" && answer.written === "")) return;
    this.#answers.unshift(answer);
    this.#answers.length = Math.min(this.#answers.length, MOST);
    byId("history").hidden = false;
    byId("entries").prepend(this.#entry(answer));
    while (byId("entries").children.length > MOST) byId("entries").lastElementChild.remove();
  }

  #entry(answer) {
    const item = document.createElement("li");
    const button = thumbnail(answer.picture.url, `${answer.asked}: ${summary(answer)}`);
    button.className = "entry";
    const words = document.createElement("span");
    words.append(line("asked", answer.asked), line("said", summary(answer)));
    button.append(words);
    button.addEventListener("click", () => this.#onRecall(answer));
    item.append(button);
    return item;
  }
}

function line(className, text) {
  const made = document.createElement("span");
  made.className = className;
  made.textContent = text;
  return made;
}
