// Suggestions to click: for the examples what fits them, for other pictures what fits most.

const byId = (id) => document.getElementById(id);

/** Pictures that the server brings along, with what may be asked about each. */
export const EXAMPLES = [
  example("circle-and-square.jpg", "a circle and a square", ["red circle, blue square", "red circle", "square"], [
    "what colour is the circle?", "where is the blue square?", "which shape is larger?",
  ]),
  example("four-shapes.png", "four shapes", [
    "yellow star, green triangle, purple cross, orange circle", "triangle", "shape",
  ], [
    "how many shapes are there?", "what colour is the star?", "is there a red heart?",
  ]),
  example("three-hearts.png", "three hearts", ["pink heart, red heart", "red heart", "heart"], [
    "how many pink shapes are there?", "where is the red heart?",
  ]),
  example("red-circle.png", "one circle", ["red circle", "green star"], ["what shape is red?", "where is the red circle?"]),
  example("tall.webp", "a tall picture", ["yellow circle, blue heart", "blue heart"], [
    "where is the blue heart?", "what shape is yellow?",
  ]),
  example("exif-rotated.jpg", "a picture turned by its EXIF data", ["green heart, orange square"], [
    "is there a green heart?", "what colour is the square?",
  ]),
];

const ANY_PICTURE = {
  question: [
    "what is in the picture?", "how many people are there?", "where was this taken?",
    "what is the weather like?", "what does the sign say?",
  ],
  objects: ["person", "car", "dog", "cat", "chair, table"],
};

const PROMPTS = ["caption en", "cap en", "describe en", "answer en what is this?", "detect red circle", "ocr"];

function example(name, about, objects, questions) {
  return { name, about, question: questions, objects };
}

/** Suggestions for a field of the form. */
function presets(field, example) {
  return field === "prompt" ? PROMPTS : (example ?? ANY_PICTURE)[field];
}

/** Shows what may be asked about a picture; `onPick()` follows a click. */
export function showPresets(example, onPick) {
  for (const place of document.querySelectorAll("[data-presets]")) {
    const field = byId(place.dataset.presets);
    const chip = (text) => {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "chip";
      button.textContent = text;
      button.addEventListener("click", () => {
        field.value = text;
        onPick();
      });
      return button;
    };
    place.replaceChildren(...presets(field.id, example).map(chip));
  }
}

/** Fills the fields with what fits an example, but never replaces what the user typed. */
export function suggest(example) {
  for (const name of ["question", "objects", "prompt"]) {
    const field = byId(name);
    const [text] = presets(name, example);
    if (field.value === (field.dataset.suggested ?? "")) field.value = text;
    if (field.value === text) field.dataset.suggested = text;
  }
}
