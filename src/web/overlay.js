// Boxes, masks and labels over the picture. Everything is drawn in pixels of the screen and drawn again
// when the picture changes its size there, so that lines and labels stay as thick and as large as they are.

const SVG = "http://www.w3.org/2000/svg";
const LABEL = { height: 24, padding: 8, gap: 4, widest: 260 };

// White text on each of them has a contrast of at least 4.5 to 1.
const COLOURS = ["#c2185b", "#1d4ed8", "#0f766e", "#b45309", "#7c3aed", "#15803d", "#b91c1c", "#0369a1"];

export const colourOf = (index) => COLOURS[index % COLOURS.length];
export const nameOf = (object, index) => `${index + 1}  ${object.label}`;

export class Overlay {
  #svg;
  #image;
  #objects = [];

  constructor(svg, image) {
    this.#svg = svg;
    this.#image = image;
    new ResizeObserver(() => this.#draw()).observe(image);
  }

  add(object) {
    this.#objects.push(object);
    this.#draw();
  }

  clear() {
    this.#objects = [];
    this.#draw();
  }

  /** Why nothing is drawn, if that is so. */
  get remark() {
    return this.#image.naturalWidth ? "" : "This browser can’t show the picture, so nothing is drawn on it.";
  }

  /** Lets one object stand out, or none if `index` is null. */
  highlight(index) {
    for (const group of this.#svg.querySelectorAll("[data-object]")) {
      group.classList.toggle("faded", index !== null && group.dataset.object !== String(index));
    }
  }

  #draw() {
    this.#svg.replaceChildren();
    const { naturalWidth } = this.#image;
    const { width, height } = this.#image.getBoundingClientRect();
    if (!naturalWidth || !width) return;
    const view = { width, height, scale: width / naturalWidth };
    this.#svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.#svg.append(stripes());
    this.#objects.forEach((object, index) => this.#svg.append(shapeOf(object, index, view.scale)));
    // Labels come last, so that no box or mask covers them, and each keeps clear of those before it.
    const taken = [];
    this.#objects.forEach((object, index) => taken.push(drawLabel(this.#svg, object, index, view, taken)));
  }
}

function shapeOf(object, index, scale) {
  const { x0, y0, x1, y1 } = object.box;
  const place = { x: x0 * scale, y: y0 * scale, width: (x1 - x0) * scale, height: (y1 - y0) * scale };
  const group = element("g", { "data-object": index });
  if (object.mask) group.append(...maskOf(object, index, scale));
  // A light line under the coloured one keeps the box visible on a background of its own colour.
  group.append(element("rect", { ...place, class: "halo" }));
  group.append(element("rect", { ...place, class: "box", stroke: colourOf(index) }));
  return group;
}

/** The mask's PNG is as large as the box in whole pixels: grey, white on the object, so it works as a luminance mask. */
function maskOf({ box, mask }, index, scale) {
  const [x0, y0, x1, y1] = [box.x0, box.y0, box.x1, box.y1].map(Math.round);
  const place = {
    x: x0 * scale,
    y: y0 * scale,
    width: Math.max(1, x1 - x0) * scale,
    height: Math.max(1, y1 - y0) * scale,
  };
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

function drawLabel(svg, object, index, view, taken) {
  const group = element("g", { "data-object": index, class: "label" });
  const text = element("text", { y: LABEL.height / 2, x: LABEL.padding });
  group.append(text);
  svg.append(group); // text can be measured only once it is there
  fit(text, nameOf(object, index), Math.min(view.width, LABEL.widest) - 2 * LABEL.padding);
  const size = { width: text.getComputedTextLength() + 2 * LABEL.padding, height: LABEL.height };
  group.prepend(element("rect", { ...size, rx: 5, fill: colourOf(index) }));
  const place = { ...findPlace(object.box, size, view, taken), ...size };
  group.setAttribute("transform", `translate(${place.x} ${place.y})`);
  return place;
}

function fit(text, words, width) {
  text.textContent = words;
  for (let end = words.length; end > 1 && text.getComputedTextLength() > width; end--) {
    text.textContent = `${words.slice(0, end - 1)}…`;
  }
}

/** Above the box if there is room, else at its inner top, else down from there until nothing is covered. */
function findPlace(box, size, view, taken) {
  const x = clamp(box.x0 * view.scale, 0, view.width - size.width);
  const top = box.y0 * view.scale;
  const lowest = Math.max(0, view.height - size.height);
  const candidates = [top - size.height - LABEL.gap, top + LABEL.gap, box.y1 * view.scale + LABEL.gap];
  for (let step = 1; step * size.height < view.height; step++) candidates.push(top + LABEL.gap + step * size.height);
  const free = (y) => y >= 0 && y <= lowest && !taken.some((other) => overlap({ x, y, ...size }, other));
  return { x, y: candidates.find(free) ?? clamp(top, 0, lowest) };
}

function overlap(one, other) {
  return one.x < other.x + other.width && other.x < one.x + one.width
    && one.y < other.y + other.height && other.y < one.y + one.height;
}

function clamp(value, low, high) {
  return Math.max(low, Math.min(value, high));
}

function element(name, attributes) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}
