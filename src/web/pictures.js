// The pictures to ask about, and which of them is on view.

const byId = (id) => document.getElementById(id);

/** `example` is one that the server brings along, or null; `region` the part that was marked, or null. */
export function pictureOf(name, blob, example = null) {
  return { name, blob, example, region: null, url: URL.createObjectURL(blob), unseen: false };
}

/** The picture as JSON carries it: a `data:` URL. */
export async function encode(blob) {
  const url = await asDataUrl(blob);
  // Browsers derive the type from the file's name and don't know them all; with plain base64 the server detects it.
  return blob.type.startsWith("image/") ? url : url.slice(url.indexOf(",") + 1);
}

/** The SHA-256 of a picture's file, by which the server knows it; null where the browser can't tell, over plain HTTP. */
export async function keyOf(blob) {
  if (!globalThis.crypto?.subtle) return null;
  const hash = await crypto.subtle.digest("SHA-256", await blob.arrayBuffer());
  return Array.from(new Uint8Array(hash), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function asDataUrl(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(blob);
  });
}

export class Pictures {
  list = [];
  shown = null;
  #onShow;

  /** `onShow(picture)` follows when another picture is on view. */
  constructor(onShow) {
    this.#onShow = onShow;
  }

  replace(pictures) {
    this.list = pictures;
    this.show(pictures[0] ?? null);
  }

  add(pictures) {
    this.list.push(...pictures);
    this.show(pictures[0]);
  }

  remove(picture) {
    const at = this.list.indexOf(picture);
    this.list.splice(at, 1);
    this.show(this.shown === picture ? this.list[Math.min(at, this.list.length - 1)] : this.shown);
  }

  show(picture) {
    this.shown = picture;
    this.#draw();
    this.#onShow(picture);
  }

  /** One picture alone needs no list. */
  #draw() {
    const tray = byId("tray");
    tray.hidden = this.list.length < 2;
    tray.replaceChildren(...this.list.map((picture) => this.#item(picture)));
  }

  #item(picture) {
    const item = document.createElement("li");
    const show = thumbnail(picture.url, `Show ${picture.name}`);
    show.setAttribute("aria-pressed", String(picture === this.shown));
    show.addEventListener("click", () => this.show(picture));
    const remove = document.createElement("button");
    remove.type = "button";
    remove.className = "remove";
    remove.textContent = "×";
    remove.setAttribute("aria-label", `Remove ${picture.name}`);
    remove.addEventListener("click", () => this.remove(picture));
    item.append(show, remove);
    return item;
  }
}

/** A button with a small picture on it. */
export function thumbnail(url, label) {
  const button = document.createElement("button");
  const image = new Image();
  image.src = url;
  image.alt = "";
  image.addEventListener("error", () => image.remove()); // of a kind that this browser can't show
  button.type = "button";
  button.className = "thumbnail";
  button.title = label;
  button.setAttribute("aria-label", label);
  button.append(image);
  return button;
}
