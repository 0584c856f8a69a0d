// What the page says about an answer, in words.

/** What happens to an answer now, or what there is to know about it; empty if its text says it all. */
export function hint(answer, shown) {
  if (answer.state === "waiting") return waiting(answer.loaded);
  if (answer.state === "queued") return queued(answer.position);
  if (answer.state === "stopped") return "Stopped.";
  if (answer.state === "failed") return begun(answer) ? "Not complete:" : "No answer.";
  if (answer.state === "running") return running(answer);
  return answer.findsObjects ? aboutObjects(answer, shown) : aboutText(answer.text);
}

/** The complete answer, as it is spoken. */
export function spoken(answer, shown) {
  if (answer.state !== "done") return hint(answer, shown);
  if (!answer.findsObjects) return answer.text.trim() || "The model had nothing to say.";
  if (answer.objects.length === 0) return `Nothing of that was found.${left(answer)}`;
  const names = answer.objects.map((object) => object.label).join(", ");
  return `${count(answer.objects.length, "object")} found: ${names}.${left(answer)}`;
}

/** A line for the list of earlier answers. */
export function summary(answer) {
  if (answer.findsObjects) return answer.objects.length ? count(answer.objects.length, "object") : "Nothing found";
  return answer.text.trim() || "Nothing said";
}

export function duration(ms) {
  return ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(2)} s`;
}

/** A share from 0 to 1. */
export const percent = (share) => `${Math.round(share * 100)} %`;

export const count = (number, noun) => `${number} ${noun}${number === 1 ? "" : "s"}`;

const begun = (answer) => answer.written !== "";

function waiting(loaded) {
  return loaded === null ? "Waiting for the model…" : `Waiting for the model: ${percent(loaded)} loaded…`;
}

function queued(position) {
  if (position === 1) return "Next in the queue…";
  return `In the queue: ${count(position - 1, "request")} ahead of this one…`;
}

function running(answer) {
  if (!begun(answer)) return "Looking at the picture…";
  return answer.findsObjects && answer.objects.length === 0 ? "Writing down where things are…" : "";
}

function aboutText(text) {
  if (text.trim() === "") return "The model had nothing to say.";
  // Only a prompt of one's own shows the tokens of boxes and masks.
  if (/<(loc|seg)\d+>/.test(text)) {
    return "These are places in the picture, as the model writes them. Detect and Segment draw them.";
  }
  return "";
}

function aboutObjects(answer, shown) {
  if (answer.objects.length === 0) return `Nothing of that was found.${left(answer)}`;
  if (shown.length < answer.objects.length) return `${shown.length} of ${count(answer.objects.length, "object")} shown.`;
  if (answer.picture.unseen) return "This browser can’t show the picture, so nothing is drawn on it.";
  return left(answer).trim();
}

function left({ result }) {
  const dropped = result?.dropped?.length ?? 0;
  return dropped ? ` ${count(dropped, "piece")} of the answer made no object.` : "";
}
