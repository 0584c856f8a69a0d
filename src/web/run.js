// Runs the requests of the answers on view: a few at a time, once the model is there.
import { Problem, stream } from "./api.js";
import { encode, keyOf } from "./pictures.js";

/** A browser opens six connections to a server; some must be left for the rest of the page. */
const AT_ONCE = 4;

/** Asks for each of `answers` what `request(answer)` returns; `update(answer)` follows every change. */
export async function runAll(answers, { request, model, signal, update }) {
  const waiting = [...answers];
  const ask = async () => {
    for (let answer = waiting.shift(); answer && !signal.aborted; answer = waiting.shift()) {
      await run(answer, request(answer), { model, signal, update });
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, ask));
}

async function run(answer, { path, fields }, { model, signal, update }) {
  try {
    const body = { ...fields, queue_position: true };
    for await (const event of whenReady(path, body, answer, { model, signal, update })) {
      answer.take(event);
      update(answer);
    }
  } catch (error) {
    if (signal.aborted) return; // stopped, or replaced by another request: not an error
    answer.fail(error instanceof Problem ? error : unexpected(error));
    update(answer);
  }
}

/** The events of an answer. If the model is not there yet, waits for it and asks again. */
async function* whenReady(path, body, answer, { model, signal, update }) {
  for (;;) {
    await model.ready(signal, (loaded) => {
      answer.wait(loaded);
      update(answer);
    });
    answer.start();
    update(answer);
    try {
      yield* ask(path, body, answer.picture, signal);
      return;
    } catch (error) {
      if (error.code !== "loading") throw error;
      model.away(error);
    }
  }
}

/** The events of an answer about a picture, which is sent only if the server does not have it. */
async function* ask(path, body, picture, signal) {
  if (picture.sent) {
    try {
      yield* stream(path, { image_key: picture.key, ...body }, picture, signal);
      return;
    } catch (error) {
      if (error.code !== "image_not_cached") throw error;
    }
  }
  picture.key ??= await keyOf(picture.blob);
  yield* stream(path, { image: await encode(picture.blob), ...body }, picture, signal);
  picture.sent = Boolean(picture.key);
}

function unexpected(error) {
  return new Problem({ title: "This page failed", detail: String(error.message ?? error) });
}
