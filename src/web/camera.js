// A picture from the camera, where the browser has one.
import { Problem } from "./api.js";

const byId = (id) => document.getElementById(id);

/** Calls `onPicture(file)` with each picture that is taken, `onProblem(problem)` when there is no camera to use. */
export function watchCamera(onPicture, onProblem) {
  let stream = null;
  const off = () => {
    for (const track of stream?.getTracks() ?? []) track.stop();
    stream = null;
    show(false);
  };
  byId("camera").addEventListener("click", async () => {
    off();
    try {
      stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    } catch (error) {
      return onProblem(refusal(error));
    }
    show(true);
    byId("video").srcObject = stream;
    await byId("video").play();
    byId("shoot").focus();
  });
  byId("camera-off").addEventListener("click", off);
  byId("shoot").addEventListener("click", async () => {
    const file = await frame(byId("video"));
    off();
    onPicture(file);
  });
  window.addEventListener("pagehide", off);
  offer();
}

/** Browsers give the camera to https and localhost only. */
async function offer() {
  const devices = await navigator.mediaDevices?.enumerateDevices().catch(() => []);
  byId("camera").hidden = !devices?.some((device) => device.kind === "videoinput");
}

function show(on) {
  const hadFocus = byId("viewfinder").contains(document.activeElement);
  byId("viewfinder").hidden = !on;
  byId("stage").classList.toggle("filming", on);
  if (!on && hadFocus) byId("camera").focus(); // buttons that vanish must not take the focus with them
}

async function frame(video) {
  const { videoWidth: width, videoHeight: height } = video;
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  canvas.getContext("2d").drawImage(video, 0, 0);
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.92));
  return new File([blob], "camera.jpg", { type: "image/jpeg" });
}

function refusal({ name, message }) {
  const title = "The camera can’t be used";
  const detail = {
    NotAllowedError: "This page was not allowed to use it. Allow it in the browser’s settings for this page, then try again.",
    NotFoundError: "No camera was found.",
    NotReadableError: "Another program may be using it.",
  };
  return new Problem({ title, detail: detail[name] ?? message });
}
