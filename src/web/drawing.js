// What is drawn alike on the page and in saved pictures: colours, lines, and where things go.
import { LABEL, fit, placeLabels } from "./labels.js";

// White text on each of them has a contrast of at least 4.5 to 1.
const COLOURS = ["#c2185b", "#1d4ed8", "#0f766e", "#b45309", "#7c3aed", "#15803d", "#b91c1c", "#0369a1"];

export const colourOf = (index) => COLOURS[index % COLOURS.length];

/** Those of an answer's objects that are among `shown`, with the index that gives number and colour, and their boxes. */
export function numbered(objects, shown, scale) {
  const all = objects.map((object, index) => ({ object, index, box: scaled(object.box, scale) }));
  return all.filter(({ object }) => shown.includes(object));
}

function scaled({ x0, y0, x1, y1 }, scale) {
  return { x: x0 * scale, y: y0 * scale, width: (x1 - x0) * scale, height: (y1 - y0) * scale };
}

/** The place of a mask, whose PNG is as large as the box in whole pixels. */
export function maskPlace({ x0, y0, x1, y1 }, scale) {
  const [left, top, right, bottom] = [x0, y0, x1, y1].map(Math.round);
  return scaled({ x0: left, y0: top, x1: Math.max(left + 1, right), y1: Math.max(top + 1, bottom) }, scale);
}

/** The line around a box, and the light one under it; thin and farther out around a mask. */
export function frameOf({ object, box: { x, y, width, height } }) {
  const { by, line, halo } = object.mask ? { by: 3.5, line: 1.5, halo: 3.5 } : { by: 1.5, line: 3, halo: 6 };
  return { place: { x: x - by, y: y - by, width: width + 2 * by, height: height + 2 * by }, line, halo };
}

const ruler = document.createElement("canvas").getContext("2d");

function widthOf(words) {
  ruler.font = LABEL.font;
  return ruler.measureText(words).width;
}

/** The labels of what `numbered` returned, in a picture of that width and height: `{words, index, place}`. */
export function labelsOf(found, view) {
  const widest = Math.min(view.width, LABEL.widest) - 2 * LABEL.padding;
  const words = found.map(({ object, index }) => fit(`${index + 1}  ${object.label}`, widest, widthOf));
  const sizes = words.map((text) => ({ width: widthOf(text) + 2 * LABEL.padding, height: LABEL.height }));
  const places = placeLabels(found.map(({ box }) => box), sizes, view);
  return places.map((place, at) => ({ words: words[at], index: found[at].index, place }));
}
