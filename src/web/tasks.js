// The tasks: each one's route, the fields of its form, and the request made from them.
import { Problem } from "./api.js";

const names = (values) => values.objects.split(",").map((name) => name.trim()).filter(Boolean);

/** The server ends every prompt with a newline; one more, from a stray Enter, would confuse the model. */
const prompt = (values) => values.prompt.replace(/[\r\n]+$/, "");

/** English is what the server takes when nothing is said. */
const language = ({ language }) => (language && language !== "en" ? { language } : {});

/** Corners as a form has them, to a tenth of a pixel. */
const corners = ({ x0, y0, x1, y1 }) => [x0, y0, x1, y1].map((edge) => Math.round(edge * 10) / 10).join(",");

/** A part of a picture is captioned without a length and a language: that is how models know it. */
function captionFields(values, region) {
  return region ? { box: corners(region) } : { length: values.length, ...language(values) };
}

/**
 * `path` is the route; `parts` are the form's fields; `fields(values, region)` makes the request's;
 * `asked(values, region)` says in a line what was asked.
 */
export const TASKS = {
  caption: {
    path: "/v1/caption",
    parts: ["length", "language", "region"],
    fields: captionFields,
    asked: ({ length }, region) => (region ? "Caption of a part" : `Caption, ${length}`),
  },
  vqa: {
    path: "/v1/vqa",
    parts: ["question", "language"],
    fields: (values) => ({ question: values.question.trim(), ...language(values) }),
    asked: ({ question }) => question.trim(),
  },
  ocr: { path: "/v1/ocr", parts: [], fields: () => ({}), asked: () => "Text in the picture" },
  detect: {
    path: "/v1/detect",
    parts: ["objects"],
    fields: (values) => ({ objects: names(values) }),
    asked: (values) => `Detect ${names(values).join(", ")}`,
  },
  segment: {
    path: "/v1/segment",
    parts: ["objects"],
    fields: (values) => ({ objects: names(values), mask_format: "box" }),
    asked: (values) => `Segment ${names(values).join(", ")}`,
  },
  generate: {
    path: "/v1/generate",
    parts: ["prompt"],
    fields: (values) => ({ prompt: prompt(values) }),
    asked: (values) => prompt(values) || "An empty prompt",
  },
};

/** What is missing from the form's values, in plain words; null if nothing is. */
export function missing(values) {
  if (values.task === "vqa" && !values.question.trim()) {
    return new Problem({ title: "No question yet", detail: "Write one, or take one of the suggestions." });
  }
  if (TASKS[values.task].parts.includes("objects") && names(values).length === 0) {
    return new Problem({ title: "Nothing to find yet", detail: "Name what to look for, such as “cat” or “red circle”." });
  }
  return null;
}

/** These answer with objects; what the model writes for them is of little use to read. */
export const findsObjects = (task) => task === "detect" || task === "segment";

/** The text of a `result` event, whatever its task calls it. */
export const textOf = (result) => result.caption ?? result.answer ?? result.text ?? "";
