// Requests to the server of this page, and their failures.
import { readEvents } from "./sse.js";

const KEY = "paligemma-api-key";

/** The key is kept only until this tab is closed. */
export const apiKey = {
  get: () => sessionStorage.getItem(KEY) ?? "",
  set: (key) => sessionStorage.setItem(KEY, key),
};

/** A failure to show: the server's problem document, or one made here in the same form. */
export class Problem extends Error {
  constructor(document, retryAfter = null) {
    super(document.title);
    this.title = document.title ?? "Something went wrong";
    this.detail = document.detail ?? "";
    this.status = document.status ?? 0;
    this.code = document.code ?? "";
    this.requestId = document.request_id ?? "";
    /** Of a model that is loading: the share that is loaded, from 0 to 1. */
    this.loaded = document.loaded ?? null;
    this.retryAfter = retryAfter;
  }
}

export async function getModels(signal) {
  const response = await send("/v1/models", { signal });
  return (await response.json()).data;
}

/** Null when the server takes requests, else the problem of a model that is loading. */
export async function getReady(signal) {
  try {
    await send("/health/ready", { signal });
    return null;
  } catch (error) {
    if (error.code === "loading") return error;
    throw error;
  }
}

/**
 * Posts `body` and yields the events of the answer, their data parsed. An `error` event is thrown. The key of the
 * picture goes into the head, so that proxies can send all questions about it to one server; the answer tells it, too.
 */
export async function* stream(path, body, picture, signal) {
  const headers = { "content-type": "application/json", accept: "text/event-stream" };
  if (picture.key) headers["x-image-key"] = picture.key;
  const response = await send(path, { method: "POST", headers, body: JSON.stringify({ ...body, stream: true }), signal });
  picture.key = response.headers.get("x-image-key");
  let finished = false;
  for await (const event of guarded(readEvents(response.body))) {
    const data = JSON.parse(event.data);
    if (event.name === "error") throw new Problem(data);
    finished ||= event.name === "done";
    yield { name: event.name, data };
  }
  if (!finished) throw brokenOff();
}

async function send(path, options) {
  const headers = { ...options.headers };
  if (apiKey.get()) headers.authorization = `Bearer ${apiKey.get()}`;
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch (error) {
    throw error.name === "AbortError" ? error : unreachable();
  }
  if (!response.ok) throw await problemOf(response);
  return response;
}

/** Distinguishes a connection that breaks during an answer from one that was never made. */
async function* guarded(events) {
  try {
    yield* events;
  } catch (error) {
    throw error instanceof TypeError ? brokenOff() : error;
  }
}

async function problemOf(response) {
  // A proxy between this page and the server may answer in another format.
  const document = await response.json().catch(() => null);
  const fallback = { title: `The server answered ${response.status} ${response.statusText}`.trim() };
  const known = document && typeof document.title === "string" ? document : fallback;
  return new Problem({ status: response.status, ...known }, secondsToWait(response.headers.get("retry-after")));
}

/** `Retry-After` is a number of seconds or a date. */
function secondsToWait(header) {
  if (!header) return null;
  const seconds = /^\d+$/.test(header) ? Number(header) : (Date.parse(header) - Date.now()) / 1000;
  return Number.isFinite(seconds) ? Math.max(1, Math.ceil(seconds)) : null;
}

function unreachable() {
  return new Problem({
    code: "unreachable",
    title: "The server can’t be reached",
    detail: `${location.origin} did not answer. Check that it is running, then try again.`,
  });
}

function brokenOff() {
  return new Problem({
    code: "broken_off",
    title: "The answer broke off",
    detail: "The connection was closed before the answer was complete.",
  });
}
