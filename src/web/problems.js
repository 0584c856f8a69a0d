// Problems in words for people who look at a form, not at an API.

/** What the form calls the API's fields. */
const LABELS = {
  image: "picture",
  question: "Question",
  objects: "Objects to find",
  prompt: "Prompt",
  language: "Language",
  length: "Length",
  box: "Part of the picture",
  temperature: "Variety",
  top_p: "Only the likeliest words",
  top_k: "Of these at most",
  seed: "Seed",
  max_tokens: "Longest answer",
  stop: "Stop before this text",
};

/** Shows a problem in `place`, or nothing if it is null. */
export function showProblem(place, problem) {
  if (place.shown === problem) return; // else a screen reader would hear it again
  place.shown = problem;
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

/** The server's messages put values and field names between backticks. */
function paragraph(text, className) {
  const made = document.createElement("p");
  text.split("`").forEach((part, index) => made.append(index % 2 ? quoted(part) : part));
  if (className) made.className = className;
  return made;
}

function quoted(text) {
  const label = LABELS[text.replace(/\[\d+\]$/, "")];
  if (label) return `“${label}”`;
  const made = document.createElement("code");
  made.textContent = text;
  return made;
}
