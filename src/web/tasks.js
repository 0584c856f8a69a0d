// The tasks: each one's route, and the request fields made from the form.

const objects = (form) => form.objects.split(",").map((name) => name.trim()).filter(Boolean);

/** The server ends every prompt with a newline; one more, from a stray Enter, would confuse the model. */
const prompt = (form) => form.prompt.replace(/[\r\n]+$/, "");

export const TASKS = {
  caption: { path: "/v1/caption", field: "length", fields: (form) => ({ length: form.length }) },
  vqa: { path: "/v1/vqa", field: "question", fields: (form) => ({ question: form.question.trim() }) },
  ocr: { path: "/v1/ocr", field: null, fields: () => ({}) },
  detect: { path: "/v1/detect", field: "objects", fields: (form) => ({ objects: objects(form) }) },
  segment: {
    path: "/v1/segment",
    field: "objects",
    fields: (form) => ({ objects: objects(form), mask_format: "box" }),
  },
  generate: { path: "/v1/generate", field: "prompt", fields: (form) => ({ prompt: prompt(form) }) },
};

/** These answer with objects; what the model writes for them is of little use to read. */
export const findsObjects = (task) => task === "detect" || task === "segment";

/** The text of a `result` event, whatever its task calls it. */
export const textOf = (result) => result.caption ?? result.answer ?? result.text ?? "";

/** Pictures that the server brings along, with what may be asked about each. */
export const EXAMPLES = [
  example("circle-and-square.jpg", "a circle and a square", "red circle, blue square", "what colour is the circle?"),
  example("four-shapes.png", "four shapes", "yellow star, green triangle", "how many shapes are there?"),
  example("three-hearts.png", "three hearts", "pink heart", "how many pink shapes are there?"),
  example("red-circle.png", "one circle", "red circle", "what shape is red?"),
  example("tall.webp", "a tall picture", "yellow circle, blue heart", "where is the blue heart?"),
  example("exif-rotated.jpg", "a picture turned by its EXIF data", "green heart, orange square", "is there a green heart?"),
];

function example(name, about, objects, question) {
  return { name, about, suggestions: { objects, question, prompt: "caption en" } };
}
