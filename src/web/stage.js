// The picture on view, with what was found drawn over it.
import { cameraOff } from "./camera.js";
import { Overlay } from "./overlay.js";

const byId = (id) => document.getElementById(id);

export class Stage {
  #overlay = new Overlay(byId("overlay"), byId("image"));
  #picture = null;

  /** `onUnseen(picture)` follows when the browser can't show a picture. */
  constructor(onUnseen) {
    const image = byId("image");
    image.addEventListener("load", () => this.#fit());
    image.addEventListener("error", () => {
      this.#picture.unseen = true;
      this.#empty("This browser can’t show this file, but the server may read it: just ask.");
      onUnseen(this.#picture);
    });
  }

  show(picture) {
    cameraOff();
    if (picture === this.#picture) return;
    this.#picture = picture;
    byId("file-name").textContent = picture?.name ?? "";
    if (!picture) return this.#empty("No picture yet");
    byId("frame").hidden = false;
    byId("no-image").hidden = true;
    byId("image").alt = `The picture: ${picture.example?.about ?? picture.name}`;
    byId("image").src = picture.url;
  }

  /** Draws those of an answer's objects that are among `shown`. */
  draw(objects, shown) {
    this.#overlay.show(objects, shown);
  }

  highlight(object) {
    this.#overlay.highlight(object);
  }

  #empty(words) {
    byId("frame").hidden = true;
    byId("no-image").hidden = false;
    byId("no-image").textContent = words;
  }

  /** Small pictures are enlarged as well: the frame needs their proportion, since its width follows from its height. */
  #fit() {
    const { naturalWidth, naturalHeight } = byId("image");
    byId("frame").style.setProperty("--ratio", naturalWidth / naturalHeight);
  }
}
