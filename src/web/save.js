// Saves an answer to files: the picture with what was found drawn in, the mask, and the JSON.
import { GUTTER, LABEL, fit, placeLabels } from "./labels.js";
import { boxOn, colourOf, labelWidth, maskPlace, nameOf } from "./overlay.js";

/** `shown` are the objects to draw. */
export async function savePicture({ picture, objects }, shown) {
  const image = await loaded(picture.url);
  const drawing = await annotate(image, objects, shown);
  save(await asPng(drawing), fileName(picture, "annotated", "png"));
}

/** White where any of the objects is, black elsewhere, as large as the picture. */
export async function saveMask({ picture }, shown) {
  const image = await loaded(picture.url);
  const canvas = canvasOf(image.naturalWidth, image.naturalHeight);
  const pen = canvas.getContext("2d");
  pen.fillRect(0, 0, canvas.width, canvas.height);
  pen.globalCompositeOperation = "lighten"; // masks that overlap add up
  for (const { box, mask } of shown) {
    const { x, y } = maskPlace(box);
    pen.drawImage(await loaded(`data:image/png;base64,${mask}`), x, y);
  }
  save(await asPng(canvas), fileName(picture, "mask", "png"));
}

export function saveJson({ picture, task, document }) {
  const text = `${JSON.stringify(document, null, 2)}\n`;
  save(new Blob([text], { type: "application/json" }), fileName(picture, task, "json"));
}

/** The picture at its own size, plus a white margin where a label needs one. */
async function annotate(image, objects, shown) {
  // Lines and labels as large, beside the picture, as on a screen of 800 pixels.
  const unit = Math.max(1, Math.max(image.naturalWidth, image.naturalHeight) / 800);
  const view = { width: image.naturalWidth / unit, height: image.naturalHeight / unit };
  const found = shown.map((object) => ({ object, index: objects.indexOf(object), box: boxOn(object.box, 1 / unit) }));
  const labels = labelsOf(found, view);
  const above = margin(Math.max(0, ...labels.map(({ place }) => -place.y)));
  const below = margin(Math.max(0, ...labels.map(({ place }) => place.y + place.height - view.height)));
  const canvas = canvasOf(image.naturalWidth, Math.round(image.naturalHeight + (above + below) * unit));
  const pen = canvas.getContext("2d");
  pen.fillStyle = "#fff";
  pen.fillRect(0, 0, canvas.width, canvas.height);
  pen.translate(0, Math.round(above * unit));
  pen.drawImage(image, 0, 0);
  for (const { object, index } of found) if (object.mask) await tint(pen, object, colourOf(index));
  pen.scale(unit, unit);
  for (const { object, index, box } of found) outline(pen, box, colourOf(index), Boolean(object.mask));
  for (const label of labels) write(pen, label);
  return canvas;
}

const margin = (needed) => (needed > 0 ? GUTTER : 0);

function labelsOf(found, view) {
  const widest = Math.min(view.width, LABEL.widest) - 2 * LABEL.padding;
  const words = found.map(({ object, index }) => fit(nameOf(object, index), widest, labelWidth));
  const sizes = words.map((text) => ({ width: labelWidth(text) + 2 * LABEL.padding, height: LABEL.height }));
  const places = placeLabels(found.map(({ box }) => box), sizes, view);
  return places.map((place, at) => ({ place, words: words[at], colour: colourOf(found[at].index) }));
}

/** Lays a colour over the white of a mask, in pixels of the picture. */
async function tint(pen, { box, mask }, colour) {
  const { x, y, width, height } = maskPlace(box);
  const layer = canvasOf(width, height);
  const layerPen = layer.getContext("2d");
  layerPen.drawImage(await loaded(`data:image/png;base64,${mask}`), 0, 0);
  const pixels = layerPen.getImageData(0, 0, width, height);
  for (let at = 0; at < pixels.data.length; at += 4) pixels.data[at + 3] = pixels.data[at];
  layerPen.putImageData(pixels, 0, 0);
  layerPen.globalCompositeOperation = "source-in";
  layerPen.fillStyle = colour;
  layerPen.fillRect(0, 0, width, height);
  pen.globalAlpha = 0.6;
  pen.drawImage(layer, x, y);
  pen.globalAlpha = 1;
}

function outline(pen, { x, y, width, height }, colour, masked) {
  const by = masked ? 3.5 : 1.5;
  for (const [line, stroke] of [[masked ? 3.5 : 6, "rgb(255 255 255 / .9)"], [masked ? 1.5 : 3, colour]]) {
    pen.lineWidth = line;
    pen.strokeStyle = stroke;
    pen.strokeRect(x - by, y - by, width + 2 * by, height + 2 * by);
  }
}

function write(pen, { place, words, colour }) {
  pen.fillStyle = colour;
  pen.beginPath();
  pen.roundRect(place.x, place.y, place.width, place.height, 5);
  pen.fill();
  pen.fillStyle = "#fff";
  pen.font = LABEL.font;
  pen.textBaseline = "middle";
  pen.fillText(words, place.x + LABEL.padding, place.y + place.height / 2);
}

function canvasOf(width, height) {
  return Object.assign(document.createElement("canvas"), { width, height });
}

async function loaded(url) {
  const image = new Image();
  image.src = url;
  await image.decode();
  return image;
}

const asPng = (canvas) => new Promise((resolve) => canvas.toBlob(resolve, "image/png"));

function fileName({ name }, what, ending) {
  return `${name.replace(/\.\w+$/, "")}-${what}.${ending}`;
}

function save(blob, name) {
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000); // the browser reads it after the click
}
