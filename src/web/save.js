// Saves an answer to files: the picture with what was found drawn in, the mask, and the JSON.
import { colourOf, frameOf, labelsOf, maskPlace, numbered } from "./drawing.js";
import { GUTTER, LABEL } from "./labels.js";

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
    const { x, y } = maskPlace(box, 1);
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
  const { naturalWidth, naturalHeight } = image;
  // Lines and labels as large, beside the picture, as on a screen of 800 pixels.
  const unit = Math.max(1, Math.max(naturalWidth, naturalHeight) / 800);
  const view = { width: naturalWidth / unit, height: naturalHeight / unit };
  const found = numbered(objects, shown, 1 / unit);
  const labels = labelsOf(found, view);
  const margin = (needed) => (needed ? Math.round(GUTTER * unit) : 0);
  const above = margin(labels.some(({ place }) => place.y < 0));
  const below = margin(labels.some(({ place }) => place.y + place.height > view.height));
  const canvas = canvasOf(naturalWidth, naturalHeight + above + below);
  const pen = canvas.getContext("2d");
  pen.fillStyle = "#fff";
  pen.fillRect(0, 0, canvas.width, canvas.height);
  pen.translate(0, above);
  pen.drawImage(image, 0, 0);
  for (const { object, index } of found) if (object.mask) await tint(pen, object, colourOf(index));
  pen.scale(unit, unit);
  for (const each of found) outline(pen, each);
  for (const each of labels) write(pen, each);
  return canvas;
}

/** Lays a colour over the white of a mask, in pixels of the picture. */
async function tint(pen, { box, mask }, colour) {
  const { x, y, width, height } = maskPlace(box, 1);
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

function outline(pen, found) {
  const { place, line, halo } = frameOf(found);
  for (const [width, stroke] of [[halo, "rgb(255 255 255 / .9)"], [line, colourOf(found.index)]]) {
    pen.lineWidth = width;
    pen.strokeStyle = stroke;
    pen.strokeRect(place.x, place.y, place.width, place.height);
  }
}

function write(pen, { words, index, place }) {
  pen.fillStyle = colourOf(index);
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
