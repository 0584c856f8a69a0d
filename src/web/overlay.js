// Boxes, masks and labels over the picture on the page. Everything is drawn in pixels of the screen and drawn
// again when the picture changes its size there, so that lines and labels stay as thick and as large as they are.
import { LABEL, fit, placeLabels } from "./labels.js";

const SVG = "http://www.w3.org/2000/svg";

// White text on each of them has a contrast of at least 4.5 to 1.
const COLOURS = ["#c2185b", "#1d4ed8", "#0f766e", "#b45309", "#7c3aed", "#15803d", "#b91c1c", "#0369a1"];

export const colourOf = (index) => COLOURS[index % COLOURS.length];
export const nameOf = (object, index) => `${index + 1}  ${object.label}`;

/** Measures the text of labels; the same on the page and in saved pictures. */
export function labelWidth(words, font = LABEL.font) {
  labelWidth.context ??= document.createElement("canvas").getContext("2d");
  labelWidth.context.font = font;
  return labelWidth.context.measureText(words).width;
}

/** The place of a mask, whose PNG is as large as the box in whole pixels. */
export function maskPlace({ x0, y0, x1, y1 }) {
  const [left, top, right, bottom] = [x0, y0, x1, y1].map(Math.round);
  return { x: left, y: top, width: Math.max(1, right - left), height: Math.max(1, bottom - top) };
}

export class Overlay {
  #svg;
  #image;
  /** Pairs of an object and its index in the answer, which gives its number and colour. */
  #shown = [];

  constructor(svg, image) {
    this.#svg = svg;
    this.#image = image;
    new ResizeObserver(() => this.#draw()).observe(image);
  }

  /** Draws those of an answer's objects that are among `shown`. */
  show(objects, shown) {
    this.#shown = objects.map((object, index) => ({ object, index })).filter(({ object }) => shown.includes(object));
    this.#draw();
  }

  /** Lets one object stand out, or none if it is null. */
  highlight(object) {
    const chosen = this.#shown.find((each) => each.object === object)?.index;
    for (const group of this.#svg.querySelectorAll("[data-object]")) {
      group.classList.toggle("faded", chosen !== undefined && group.dataset.object !== String(chosen));
    }
  }

  #draw() {
    this.#svg.replaceChildren();
    const { naturalWidth } = this.#image;
    const { width, height } = this.#image.getBoundingClientRect();
    if (!naturalWidth || !width) return;
    this.#svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const scale = width / naturalWidth;
    this.#svg.append(stripes());
    for (const { object, index } of this.#shown) this.#svg.append(shapeOf(object, index, scale));
    // Labels come last, so that no box or mask covers them.
    this.#svg.append(...labels(this.#shown, { width, height, scale }));
  }
}

export function boxOn({ x0, y0, x1, y1 }, scale) {
  return { x: x0 * scale, y: y0 * scale, width: (x1 - x0) * scale, height: (y1 - y0) * scale };
}

function shapeOf(object, index, scale) {
  const group = element("g", { "data-object": index, class: object.mask ? "masked" : "boxed" });
  const box = boxOn(object.box, scale);
  if (object.mask) group.append(...maskOf(object, index, scale));
  // A light line under the coloured one keeps the box visible on a background of its own colour.
  group.append(element("rect", { ...outside(box, object.mask ? 3.5 : 1.5), class: "halo" }));
  group.append(element("rect", { ...outside(box, object.mask ? 3.5 : 1.5), class: "box", stroke: colourOf(index) }));
  return group;
}

/** The lines of a box run around it, so that they don't cover the edge of what is in it. */
function outside({ x, y, width, height }, by) {
  return { x: x - by, y: y - by, width: width + 2 * by, height: height + 2 * by };
}

/** Grey, and white on the object, a mask's PNG works as a luminance mask. */
function maskOf({ box, mask }, index, scale) {
  const pixels = maskPlace(box);
  const place = boxOn({ x0: pixels.x, y0: pixels.y, x1: pixels.x + pixels.width, y1: pixels.y + pixels.height }, scale);
  const cut = element("mask", { id: `mask-${index}`, maskUnits: "userSpaceOnUse", ...place });
  cut.append(element("image", { ...place, preserveAspectRatio: "none", href: `data:image/png;base64,${mask}` }));
  const shown = { ...place, mask: `url(#mask-${index})` };
  const tint = element("rect", { ...shown, fill: colourOf(index), class: "mask" });
  return [cut, tint, element("rect", { ...shown, fill: "url(#stripes)" })];
}

/** Stripes keep a mask visible on a background of a similar colour. */
function stripes() {
  const size = { width: 9, height: 9, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" };
  const pattern = element("pattern", { id: "stripes", ...size });
  pattern.append(element("line", { x1: 0, y1: 0, x2: 0, y2: 9, class: "stripe" }));
  return pattern;
}

function labels(shown, view) {
  const widest = Math.min(view.width, LABEL.widest) - 2 * LABEL.padding;
  const words = shown.map(({ object, index }) => fit(nameOf(object, index), widest, labelWidth));
  const sizes = words.map((text) => ({ width: labelWidth(text) + 2 * LABEL.padding, height: LABEL.height }));
  const boxes = shown.map(({ object }) => boxOn(object.box, view.scale));
  return placeLabels(boxes, sizes, view).map(({ x, y, width, height }, place) => {
    const { index } = shown[place];
    const group = element("g", { "data-object": index, class: "label", transform: `translate(${x} ${y})` });
    const text = element("text", { x: LABEL.padding, y: height / 2 });
    text.textContent = words[place];
    group.append(element("rect", { width, height, rx: 5, fill: colourOf(index) }), text);
    return group;
  });
}

function element(name, attributes) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}
