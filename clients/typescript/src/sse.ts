/** Turns the bytes of an event stream, split anywhere, into events. Source: WHATWG HTML, sections 9.2.5 and 9.2.6. */
export class EventStreamParser {
  readonly #decoder = new TextDecoder();
  #line = "";
  #isAfterCR = false;
  #data: string[] = [];
  #event = "";
  #id = "";

  /** Yields the events that these bytes complete. What is not complete when the stream ends never happened. */
  *push(bytes: Uint8Array): Generator<{ id: string; event: string; data: string }, void, undefined> {
    let text = this.#decoder.decode(bytes, { stream: true });
    if (!text) return;
    const isCRLF = this.#isAfterCR && text[0] === "\n";
    this.#isAfterCR = text.endsWith("\r");
    if (isCRLF) text = text.slice(1);
    const lines = text.split(/\r\n|\r|\n/);
    lines[0] = this.#line + lines[0];
    this.#line = lines.pop() ?? "";
    for (const line of lines) {
      if (line) this.#read(line);
      else yield* this.#dispatch();
    }
  }

  #read(line: string): void {
    const colon = line.indexOf(":");
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(line[colon + 1] === " " ? colon + 2 : colon + 1);
    if (field === "data") this.#data.push(value);
    else if (field === "event") this.#event = value;
    else if (field === "id" && !value.includes("\0")) this.#id = value;
  }

  *#dispatch(): Generator<{ id: string; event: string; data: string }, void, undefined> {
    const event = { id: this.#id, event: this.#event || "message", data: this.#data.join("\n") };
    const isEmpty = this.#data.length === 0;
    this.#data = [];
    this.#event = "";
    if (!isEmpty) yield event;
  }
}
