// A part of the picture, marked by dragging over it or by its corners.

const byId = (id) => document.getElementById(id);
const LEAST = 4; // pixels of the screen; less is a click, not a drag
const corners = () => [...document.querySelectorAll("[data-corner]")];

export class RegionPicker {
  #picture = null;
  #offered = false;
  #onChange;
  #start = null;

  /** `onChange()` follows when the picture on view has another region. */
  constructor(onChange) {
    this.#onChange = onChange;
    const frame = byId("frame");
    frame.addEventListener("pointerdown", (event) => this.#begin(event));
    frame.addEventListener("pointermove", (event) => this.#start && this.#drag(event));
    frame.addEventListener("pointerup", (event) => this.#end(event));
    frame.addEventListener("pointercancel", () => (this.#start = null));
    byId("image").addEventListener("load", () => this.#draw());
    byId("mark").addEventListener("click", ({ detail }) => (detail ? this.#setMarking(!this.#marking) : this.#middle()));
    byId("whole").addEventListener("click", () => this.#set(null));
    for (const field of corners()) {
      field.addEventListener("change", () => this.#set(this.#typed()));
      field.addEventListener("input", (event) => event.stopPropagation()); // a half-typed number is none yet
    }
  }

  show(picture) {
    this.#picture = picture;
    this.#draw();
  }

  /** Whether the task takes a part of a picture. */
  offer(offered) {
    this.#offered = offered;
    if (!offered) this.#setMarking(false);
    byId("frame").classList.toggle("markable", offered);
    this.#draw();
  }

  get #marking() {
    return byId("mark").getAttribute("aria-pressed") === "true";
  }

  /** A finger scrolls the page unless it is told to mark. */
  #setMarking(on) {
    byId("mark").setAttribute("aria-pressed", String(on));
    byId("frame").classList.toggle("marking", on);
  }

  /** Whoever has no pointer begins with the middle of the picture, and moves its corners. */
  #middle() {
    const { naturalWidth: width, naturalHeight: height } = byId("image");
    this.#set({ x0: width / 4, y0: height / 4, x1: (3 * width) / 4, y1: (3 * height) / 4 });
    corners()[0].focus();
  }

  #begin(event) {
    if (!this.#offered || event.button !== 0) return;
    if (event.pointerType === "touch" && !this.#marking) return;
    event.preventDefault();
    byId("frame").setPointerCapture(event.pointerId);
    this.#start = { at: this.#point(event), x: event.clientX, y: event.clientY, before: this.#picture.region };
  }

  #drag(event) {
    const far = Math.max(Math.abs(event.clientX - this.#start.x), Math.abs(event.clientY - this.#start.y));
    const [one, other] = [this.#start.at, this.#point(event)];
    const region = {
      x0: Math.min(one.x, other.x), y0: Math.min(one.y, other.y),
      x1: Math.max(one.x, other.x), y1: Math.max(one.y, other.y),
    };
    this.#picture.region = far < LEAST ? this.#start.before : region;
    this.#draw();
  }

  #end(event) {
    if (!this.#start) return;
    this.#drag(event);
    this.#start = null;
    this.#setMarking(false);
    this.#set(this.#picture.region);
  }

  /** In pixels of the picture, within it. */
  #point({ clientX, clientY }) {
    const image = byId("image");
    const { left, top, width, height } = image.getBoundingClientRect();
    const along = (at, length, pixels) => Math.max(0, Math.min(at / length, 1)) * pixels;
    return { x: along(clientX - left, width, image.naturalWidth), y: along(clientY - top, height, image.naturalHeight) };
  }

  /** The corners in the fields, if they are a part of the picture. */
  #typed() {
    const { naturalWidth, naturalHeight } = byId("image");
    const region = Object.fromEntries(corners().map((field) => [field.dataset.corner, Number(field.value)]));
    region.x1 = Math.min(region.x1, naturalWidth);
    region.y1 = Math.min(region.y1, naturalHeight);
    const { x0, y0, x1, y1 } = region;
    return x0 >= 0 && x0 < x1 && y0 >= 0 && y0 < y1 ? region : this.#picture.region;
  }

  #set(region) {
    this.#picture.region = region;
    this.#draw();
    this.#onChange();
  }

  #draw() {
    const region = (this.#offered && this.#picture?.region) || null;
    const box = byId("region");
    box.hidden = byId("corners").hidden = byId("whole").hidden = !region;
    byId("part-note").textContent = region
      ? "Only this part is described, in English and at normal length."
      : "Drag over the picture to have only a part of it described, if the model has learnt that.";
    if (!region) return;
    const { naturalWidth: width, naturalHeight: height } = byId("image");
    const { x0, y0, x1, y1 } = region;
    const share = (pixels, all) => `${(100 * pixels) / all}%`;
    Object.assign(box.style, { left: share(x0, width), top: share(y0, height) });
    Object.assign(box.style, { width: share(x1 - x0, width), height: share(y1 - y0, height) });
    for (const field of corners()) field.value = Math.round(region[field.dataset.corner] * 10) / 10;
  }
}
