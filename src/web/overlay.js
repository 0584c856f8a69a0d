// Boxes, masks and labels over the picture on the page. Everything is drawn in pixels of the screen and drawn
// again when the picture changes its size there, so that lines and labels stay as thick and as large as they are.
import { colourOf, frameOf, labelsOf, maskPlace, numbered } from "./drawing.js";
import { LABEL } from "./labels.js";

const SVG = "http://www.w3.org/2000/svg";

export class Overlay {
  #svg;
  #image;
  #objects = [];
  #shown = [];

  constructor(svg, image) {
    this.#svg = svg;
    this.#image = image;
    new ResizeObserver(() => this.#draw()).observe(image);
  }

  /** Draws those of an answer's objects that are among `shown`. */
  show(objects, shown) {
    this.#objects = objects;
    this.#shown = shown;
    this.#draw();
  }

  /** Lets one object stand out, or none if it is null. */
  highlight(object) {
    const chosen = String(this.#objects.indexOf(object));
    for (const group of this.#svg.querySelectorAll("[data-object]")) {
      group.classList.toggle("faded", object !== null && group.dataset.object !== chosen);
    }
  }

  #draw() {
    this.#svg.replaceChildren();
    const { naturalWidth } = this.#image;
    const { width, height } = this.#image.getBoundingClientRect();
    if (!naturalWidth || !width) return;
    this.#svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const scale = width / naturalWidth;
    const found = numbered(this.#objects, this.#shown, scale);
    // Labels come last, so that no box or mask covers them.
    this.#svg.append(stripes(), ...found.map((each) => shape(each, scale)), ...labelsOf(found, { width, height }).map(label));
  }
}

function shape(found, scale) {
  const { object, index } = found;
  const { place, line, halo } = frameOf(found);
  const group = element("g", { "data-object": index, class: "shape" });
  if (object.mask) group.append(...mask(object, index, scale));
  // A light line under the coloured one keeps the box visible on a background of its own colour.
  group.append(element("rect", { ...place, class: "halo", "stroke-width": halo }));
  group.append(element("rect", { ...place, class: "box", "stroke-width": line, stroke: colourOf(index) }));
  return group;
}

/** Grey, and white on the object, a mask's PNG works as a luminance mask. */
function mask({ box, mask }, index, scale) {
  const place = maskPlace(box, scale);
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

function label({ words, index, place: { x, y, width, height } }) {
  const group = element("g", { "data-object": index, class: "label", transform: `translate(${x} ${y})` });
  const text = element("text", { x: LABEL.padding, y: height / 2 });
  text.textContent = words;
  group.append(element("rect", { width, height, rx: 5, fill: colourOf(index) }), text);
  return group;
}

function element(name, attributes) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}
