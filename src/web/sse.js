// Server-sent events read from the body of a fetch. EventSource can only GET, and a picture has to be POSTed.

/** Turns pieces of text, cut anywhere, into events. Lines may end in LF, CRLF or CR. */
export class EventParser {
  #line = "";
  #name = "";
  #data = [];
  #afterCr = false;

  /** The events that `text` completes. An event is complete only when its blank line has come. */
  push(text) {
    const events = [];
    for (const piece of this.#lines(text)) {
      const event = this.#take(piece);
      if (event) events.push(event);
    }
    return events;
  }

  #lines(text) {
    if (text === "") return [];
    // A CRLF may be cut in two: the LF then belongs to the line that its CR has ended already.
    const rest = this.#afterCr && text.startsWith("\n") ? text.slice(1) : text;
    this.#afterCr = text.endsWith("\r");
    const lines = (this.#line + rest).split(/\r\n|\n|\r/);
    this.#line = lines.pop();
    return lines;
  }

  #take(line) {
    if (line === "") return this.#dispatch();
    const colon = line.indexOf(":");
    if (colon === 0) return null; // a comment, sent to keep the connection open
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (field === "event") this.#name = value;
    if (field === "data") this.#data.push(value);
    return null;
  }

  #dispatch() {
    const event = { name: this.#name || "message", data: this.#data.join("\n") };
    const empty = this.#data.length === 0;
    this.#name = "";
    this.#data = [];
    return empty ? null : event;
  }
}

/** Yields `{name, data}` for every event of a response's body, as they arrive. */
export async function* readEvents(body) {
  const reader = body.getReader();
  const decoder = new TextDecoder(); // holds back the first bytes of a character that is cut in two
  const parser = new EventParser();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      yield* parser.push(decoder.decode(value, { stream: true }));
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}
