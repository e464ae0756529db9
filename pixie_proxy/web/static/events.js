// Read server-sent events out of text that comes in pieces. Nothing here knows a network or an image.

/** Finds events. Pieces may end anywhere, within a line's end too; comments and fields that we don't know are skipped. */
export class EventParser {
  #pieces = []; // of the line that has not ended yet: a picture's line is long, so it is joined once
  #isAfterCR = false; // the last piece ended with CR: an LF that begins the next belongs to it
  #name = "";
  #data = [];

  /** Take a piece of text and give the events that it ends, each {name, data}. */
  feed(text) {
    const found = [];
    let from = this.#isAfterCR && text.startsWith("\n") ? 1 : 0;
    if (text) this.#isAfterCR = false;
    const breaks = /\r\n|\r|\n/g;
    breaks.lastIndex = from;
    for (let at = breaks.exec(text); at; at = breaks.exec(text)) {
      this.#pieces.push(text.slice(from, at.index));
      from = breaks.lastIndex;
      this.#isAfterCR = at[0] === "\r" && from === text.length;
      const event = this.#line(this.#pieces.join(""));
      this.#pieces = [];
      if (event) found.push(event);
    }
    if (from < text.length) this.#pieces.push(text.slice(from));
    return found;
  }

  #line(line) {
    if (line === "") return this.#end();
    const colon = line.indexOf(":");
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(line[colon + 1] === " " ? colon + 2 : colon + 1);
    if (field === "data") this.#data.push(value);
    if (field === "event") this.#name = value;
    return null;
  }

  #end() {
    const event = this.#data.length ? { name: this.#name || "message", data: this.#data.join("\n") } : null;
    this.#name = "";
    this.#data = [];
    return event;
  }
}

/** Yield the JSON of each event of a body. What is no JSON, such as `[DONE]`, says nothing to us. */
export async function* eventsOf(body) {
  const parser = new EventParser();
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    for (const { data } of parser.feed(value)) {
      if (data.startsWith("{")) yield JSON.parse(data);
    }
  }
}
