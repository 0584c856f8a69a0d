// A picture from the camera, where the browser has one.
import { Problem } from "./api.js";

const byId = (id) => document.getElementById(id);
let stream = null;

/** Calls `onPicture(file)` with each picture that is taken, `onProblem(problem)` when there is no camera to use. */
export function watchCamera(onPicture, onProblem) {
  byId("camera").addEventListener("click", async () => {
    cameraOff();
    try {
      stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    } catch (error) {
      return onProblem(refusal(error));
    }
    byId("viewfinder").hidden = false;
    byId("stage").classList.add("filming");
    byId("video").srcObject = stream;
    await byId("video").play();
    byId("shoot").focus();
  });
  byId("camera-off").addEventListener("click", cameraOff);
  byId("shoot").addEventListener("click", async () => {
    const file = await frame(byId("video"));
    cameraOff();
    onPicture(file);
  });
  window.addEventListener("pagehide", cameraOff);
  offer();
}

export function cameraOff() {
  for (const track of stream?.getTracks() ?? []) track.stop();
  stream = null;
  const hadFocus = byId("viewfinder").contains(document.activeElement);
  byId("viewfinder").hidden = true;
  byId("stage").classList.remove("filming");
  if (hadFocus) byId("camera").focus(); // buttons that vanish must not take the focus with them
}

/** Browsers give the camera to https and localhost only. */
async function offer() {
  const devices = await navigator.mediaDevices?.enumerateDevices().catch(() => []);
  byId("camera").hidden = !devices?.some((device) => device.kind === "videoinput");
}

async function frame(video) {
  const { videoWidth: width, videoHeight: height } = video;
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  canvas.getContext("2d").drawImage(video, 0, 0);
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.92));
  return new File([blob], "camera.jpg", { type: "image/jpeg" });
}

function refusal({ name, message }) {
  const details = {
    NotAllowedError: "This page was not allowed to use it. Allow it in the browser’s settings for this page, then try again.",
    NotFoundError: "No camera was found.",
    NotReadableError: "Another program may be using it.",
  };
  return new Problem({ title: "The camera can’t be used", detail: details[name] ?? message });
}
