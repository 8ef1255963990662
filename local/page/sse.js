// Server-sent events over fetch: what EventSource cannot do, because it can neither POST nor set headers.
// No dependency and nothing of this page in it: copy it into your own client.

/** Turns the bytes of an event stream, split anywhere, into events `{ id, event, data }`.
 *  Source: WHATWG HTML, sections 9.2.5 and 9.2.6. */
export class EventStreamParser {
  /** The server's wish for the pause before reconnecting, in milliseconds; null when it has none. */
  retryMs = null;
  #decoder = new TextDecoder();
  #line = "";
  #isAfterCR = false;
  #data = [];
  #event = "";
  #id = "";

  /** Yields the events that these bytes complete. What is not complete when the stream ends never happened. */
  *push(bytes) {
    let text = this.#decoder.decode(bytes, { stream: true });
    if (!text) return;
    const isCRLF = this.#isAfterCR && text[0] === "\n";
    this.#isAfterCR = text.endsWith("\r");
    if (isCRLF) text = text.slice(1);
    const lines = text.split(/\r\n|\r|\n/);
    lines[0] = this.#line + lines[0];
    this.#line = lines.pop();
    for (const line of lines) {
      if (line) this.#read(line);
      else yield* this.#dispatch();
    }
  }

  #read(line) {
    const colon = line.indexOf(":");
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(line[colon + 1] === " " ? colon + 2 : colon + 1);
    if (field === "data") this.#data.push(value);
    else if (field === "event") this.#event = value;
    else if (field === "id" && !value.includes("\0")) this.#id = value;
    else if (field === "retry" && /^[0-9]+$/.test(value)) this.retryMs = Number(value);
  }

  *#dispatch() {
    const event = { id: this.#id, event: this.#event || "message", data: this.#data.join("\n") };
    const isEmpty = this.#data.length === 0;
    this.#data = [];
    this.#event = "";
    if (!isEmpty) yield event;
  }
}

/** An answer of the service that is no event stream. */
export class ProblemError extends Error {
  constructor(status, problem, retryAfterSeconds) {
    super(problem.detail || `HTTP ${status}`);
    this.status = status;
    this.code = problem.code || "";
    this.problem = problem;
    this.retryAfterSeconds = retryAfterSeconds;
  }

  /** Whether something between us and the service, or a store behind it, is away for the moment. */
  get isPassing() {
    return [502, 503, 504].includes(this.status);
  }

  static async from(response) {
    const problem = await response.json().catch(() => ({}));
    return new ProblemError(response.status, problem || {}, Number(response.headers.get("retry-after")) || 0);
  }
}

/**
 * Yields the events of one answer up to its `done`, each once and in order, over as many connections as that takes.
 *
 * `connect(lastEventId, signal)` makes one request and returns the response; `lastEventId` is empty at first. `onCut` is
 * told before each new attempt. Ends without an event when there is nothing to follow (204). Throws when `signal` is
 * aborted, when the service refuses, and after `attempts` failures in a row.
 */
export async function* followAnswer({
  connect, onCut = () => {}, signal = new AbortController().signal, silenceMs = 45_000, pauseMs = 500, attempts = 8,
}) {
  let lastEventId = "";
  let pause = pauseMs;
  for (let failures = 0; ; ) {
    const silence = new Silence(silenceMs);
    const parser = new EventStreamParser();
    try {
      const response = await connect(lastEventId, AbortSignal.any([signal, silence.signal]));
      if (response.status === 204) return;
      if (!response.ok) throw await ProblemError.from(response);
      for await (const bytes of chunks(response.body)) {
        silence.broken();
        for (const event of parser.push(bytes)) {
          lastEventId = event.id;
          if (event.event !== "start") failures = 0;
          yield event;
          if (event.event === "done") return;
        }
      }
      throw new Error("The connection ended before the answer.");
    } catch (error) {
      failures += 1;
      const isFinal = error instanceof ProblemError && !error.isPassing;
      if (signal.aborted || isFinal || failures >= attempts) throw error;
      pause = parser.retryMs ?? pause;
      onCut(error);
    } finally {
      silence.stop();
    }
    await rest(Math.min(pause * 2 ** (failures - 1), 10_000) * (0.75 + Math.random() / 2), signal);
  }
}

/** Aborts a connection on which nothing has come for so long that it must be dead; the service comments every 15 s. */
class Silence {
  #controller = new AbortController();
  #timer = 0;

  constructor(limitMs) {
    this.limitMs = limitMs;
    this.broken();
  }

  get signal() {
    return this.#controller.signal;
  }

  broken() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#controller.abort(new Error("The connection fell silent.")), this.limitMs);
  }

  stop() {
    clearTimeout(this.#timer);
    this.#controller.abort();
  }
}

async function* chunks(body) {
  const reader = body.getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      yield value;
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

/** Waits, but no longer than until the browser is online again. */
function rest(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const finish = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", finish);
      globalThis.removeEventListener?.("online", finish);
      if (signal.aborted) reject(signal.reason);
      else resolve();
    };
    const timer = setTimeout(finish, milliseconds);
    signal.addEventListener("abort", finish);
    globalThis.addEventListener?.("online", finish);
    if (signal.aborted) finish();
  });
}
