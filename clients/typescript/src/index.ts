/**
 * A client of AIVA's chat service: answers as async iterables of typed events, which survive lost connections.
 * For browsers and Node 20 or later; nothing but fetch.
 */
import type { components } from "./openapi.js";
import { EventStreamParser } from "./sse.js";

type Schemas = components["schemas"];
export type Chat = Schemas["Chat"];
export type ListedChat = Schemas["ListedChat"];
export type Message = Schemas["UserMessage"] | Schemas["AnswerMessage"];
export type Model = Schemas["AvailableModel"];
export type CancelResult = Schemas["Cancelled"] | Schemas["Cancelling"] | Schemas["NotActive"];
export type Done = Schemas["DoneEvent"];

/** What a stream tells. `start` means: begin afresh, whatever text came before is void. `done` is always last, exactly once. */
export type ChatEvent =
  | ({ type: "start" } & Schemas["StartEvent"])
  | ({ type: "delta" } & Schemas["DeltaEvent"])
  | ({ type: "reasoning" } & Schemas["ReasoningEvent"])
  | ({ type: "sources" } & Schemas["SourcesEvent"])
  | ({ type: "title" } & Schemas["TitleEvent"])
  | ({ type: "failure" } & Schemas["FailureEvent"])
  | ({ type: "done" } & Done);

export type FunctionName = "create" | "stream" | "cancel" | "manage";

export interface ClientOptions {
  /** One address for all functions (`make run`, a front door), or one for each. Default: the page's own origin. */
  urls?: string | Record<FunctionName, string>;
  /** Who asks, such as `{ "X-User-Id": "user-123" }` or a bearer token; asked for before each request if it is a function. */
  headers?: Record<string, string> | (() => Record<string, string> | Promise<Record<string, string>>);
  /** This device: it has one running answer in a chat. Default: a new one. */
  sessionId?: string;
  fetch?: typeof fetch;
}

export interface AskOptions {
  userMessageId?: string;
  /** The answer that the message follows, null for none; left out, the end of the active branch. */
  parentMessageId?: string | null;
  model?: string;
  /** `cancel`: the session's running answer is cancelled first. */
  onBusy?: "reject" | "cancel";
  /** Leaves the stream; the answer goes on. */
  signal?: AbortSignal;
}

/** How often in a row a stream is connected again before it is given up. */
const ATTEMPTS = 8;
/** The service is never silent for longer than 15 s, so a connection that is has died. */
const SILENCE_MS = 45_000;
const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 10_000;
const PASSING = [502, 503, 504];

/** The service refused a request; `message` says why in words. Source of the fields: RFC 9457. */
export class ChatServiceError extends Error {
  override name = "ChatServiceError";

  constructor(
    readonly status: number,
    /** One word, such as `chat_not_found` or `rate_limited`; empty where something in between answered. */
    readonly code: string,
    message: string,
    readonly retryAfterSeconds: number | null,
  ) {
    super(message);
  }

  static async of(response: Response): Promise<ChatServiceError> {
    const problem = await response.json().catch(() => null);
    const seconds = Number.parseInt(response.headers.get("retry-after") ?? "", 10);
    const { code = "", detail = `HTTP ${response.status}` } = problem ?? {};
    return new ChatServiceError(response.status, String(code), String(detail), Number.isNaN(seconds) ? null : seconds);
  }
}

interface ServiceRequest {
  to: FunctionName;
  method: string;
  path: string;
  body?: unknown;
  query?: Record<string, string | number | undefined>;
  headers?: Record<string, string>;
}

/** One answer, as the events up to `done`, over as many connections as that takes. Iterate over it once. */
export class Answer implements AsyncIterable<ChatEvent> {
  /** The text so far. */
  text = "";
  reasoning = "";
  messageId: string | null = null;
  done: Done | null = null;
  #lastEventId = "";
  #failures = 0;

  constructor(
    private readonly client: ChatClient,
    readonly chatId: string,
    readonly userMessageId: string | null,
    private readonly request: ServiceRequest,
    private readonly signal?: AbortSignal,
  ) {}

  /** Takes everything and returns the text; what the end was is in `done`. */
  async read(): Promise<string> {
    for await (const _ of this);
    return this.text;
  }

  /** Ends the answer, on all devices; also before it has begun. */
  cancel(): Promise<CancelResult> {
    const target = this.messageId ? { messageId: this.messageId } : { userMessageId: this.userMessageId ?? undefined };
    return this.client.cancel(this.chatId, target);
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<ChatEvent, void, undefined> {
    while (!this.done) {
      let pause: number | null = null;
      try {
        const response = await this.#connect();
        if (response === null) return; // there is nothing to follow
        for await (const event of response) yield this.#take(event);
        if (this.done) return;
        throw new Error("The stream ended before the answer.");
      } catch (error) {
        this.signal?.throwIfAborted();
        const refusal = error instanceof ChatServiceError ? error : null;
        const mayPass = !refusal || PASSING.includes(refusal.status) || (refusal.status === 429 && this.#lastEventId !== "");
        this.#failures += 1;
        if (!mayPass || this.#failures >= ATTEMPTS) throw error;
        pause = refusal?.retryAfterSeconds == null ? null : refusal.retryAfterSeconds * 1000;
      }
      const longest = Math.min(FIRST_PAUSE_MS * 2 ** (this.#failures - 1), LONGEST_PAUSE_MS);
      await rest(pause ?? longest * (0.5 + Math.random() / 2), this.signal);
    }
  }

  /** Makes one connection and returns its events; null when there is nothing to follow. */
  async #connect(): Promise<AsyncGenerator<{ id: string; event: string; data: string }> | null> {
    const silence = new AbortController();
    const signal = this.signal ? AbortSignal.any([this.signal, silence.signal]) : silence.signal;
    let timer = setTimeout(() => silence.abort(new Error("The connection fell silent.")), SILENCE_MS);
    const response = await this.client
      .send({ ...this.request, headers: { "last-event-id": this.#lastEventId } }, signal)
      .catch((error: unknown) => {
        clearTimeout(timer);
        throw error;
      });
    const isStream = response.headers.get("content-type")?.startsWith("text/event-stream") ?? false;
    if (!response.ok || !isStream || !response.body) {
      clearTimeout(timer);
      if (response.status === 204 && this.#lastEventId === "") return null;
      throw response.ok ? new Error("This is no event stream.") : await ChatServiceError.of(response);
    }
    const body = response.body;
    return (async function* () {
      const parser = new EventStreamParser();
      const reader = body.getReader();
      try {
        for (;;) {
          const { done, value } = await reader.read();
          if (done) return;
          clearTimeout(timer);
          timer = setTimeout(() => silence.abort(new Error("The connection fell silent.")), SILENCE_MS);
          yield* parser.push(value);
        }
      } finally {
        clearTimeout(timer);
        reader.cancel().catch(() => {});
      }
    })();
  }

  #take({ id, event, data }: { id: string; event: string; data: string }): ChatEvent {
    const found = { type: event === "message" ? "delta" : event, ...JSON.parse(data) } as ChatEvent;
    this.#lastEventId = id;
    if (found.type !== "start") this.#failures = 0;
    if (found.type === "start") {
      this.text = this.reasoning = "";
      this.messageId = found.messageId;
    } else if (found.type === "delta") this.text += found.delta;
    else if (found.type === "reasoning") this.reasoning += found.delta;
    else if (found.type === "done") this.done = found;
    return found;
  }
}

/** Talks to the service. All methods throw `ChatServiceError` when it refuses, and what fetch throws when there is no answer. */
export class ChatClient {
  readonly sessionId: string;
  readonly #options: ClientOptions;

  constructor(options: ClientOptions = {}) {
    this.#options = options;
    this.sessionId = options.sessionId ?? crypto.randomUUID();
  }

  /** Sends any request and returns the response, whatever it is; for what has no method here. */
  async send({ to, method, path, body, query = {}, headers = {} }: ServiceRequest, signal?: AbortSignal): Promise<Response> {
    const { urls = "", headers: given = {}, fetch: own = fetch } = this.#options;
    const parameters = new URLSearchParams();
    for (const [name, value] of Object.entries(query)) if (value !== undefined) parameters.set(name, String(value));
    const all: Record<string, string> = { "x-session-id": this.sessionId, ...(typeof given === "function" ? await given() : given), ...headers };
    const content = body === undefined ? null : JSON.stringify(body);
    if (content !== null) {
      all["content-type"] = "application/json";
      // CloudFront passes a body on to a Function URL only with its digest; only secure pages can make one.
      if (globalThis.crypto?.subtle) all["x-amz-content-sha256"] = await sha256(content);
    }
    const address = (typeof urls === "string" ? urls : urls[to]).replace(/\/$/, "") + path + (parameters.size ? `?${parameters}` : "");
    return own(address, { method, headers: all, body: content, signal: signal ?? null, cache: "no-store" });
  }

  async #ask<T>(request: ServiceRequest): Promise<T> {
    const response = await this.send(request);
    if (!response.ok) throw await ChatServiceError.of(response);
    return (response.status === 204 ? undefined : await response.json()) as T;
  }

  /** Makes a chat and returns its id; with the same key the same chat. */
  async createChat(body: { title?: string; systemPrompt?: string } = {}, idempotencyKey: string = crypto.randomUUID()): Promise<string> {
    const headers = { "idempotency-key": idempotencyKey };
    return (await this.#ask<Schemas["ChatCreated"]>({ to: "create", method: "POST", path: "/api/chat/create", body, headers })).chatId;
  }

  /** Sends a message and returns its answer, which begins when it is iterated over. Sent again under its id it starts nothing twice. */
  ask(chatId: string, content: string, { signal, userMessageId = crypto.randomUUID(), ...more }: AskOptions = {}): Answer {
    return this.#answer(chatId, userMessageId, { content, userMessageId, ...more }, signal);
  }

  /** Returns another answer to a message. */
  regenerate(chatId: string, userMessageId: string, options: { attemptId?: string; model?: string; signal?: AbortSignal } = {}): Answer {
    const { signal, attemptId = crypto.randomUUID(), ...more } = options;
    return this.#answer(chatId, userMessageId, { regenerate: { userMessageId, attemptId }, ...more }, signal);
  }

  /** Returns an answer that is there, or the chat's running one; without any there are no events. */
  watch(chatId: string, messageId?: string, signal?: AbortSignal): Answer {
    const request: ServiceRequest = { to: "stream", method: "GET", path: `/api/chat/${chatId}/stream`, query: { messageId } };
    return new Answer(this, chatId, null, request, signal);
  }

  #answer(chatId: string, userMessageId: string, body: unknown, signal?: AbortSignal): Answer {
    return new Answer(this, chatId, userMessageId, { to: "stream", method: "POST", path: `/api/chat/${chatId}/stream`, body }, signal);
  }

  /** Ends an answer, or without a target the session's running one. */
  cancel(chatId: string, target: { messageId?: string | undefined; userMessageId?: string | undefined } = {}): Promise<CancelResult> {
    return this.#ask({ to: "cancel", method: "POST", path: `/api/chat/${chatId}/cancel`, body: target });
  }

  /** Yields the chats, newest activity first, or those that hold all words of `q`; asks for `limit` at once. */
  async *chats({ q, limit = 30 }: { q?: string; limit?: number } = {}): AsyncGenerator<ListedChat, void, undefined> {
    let cursor: string | undefined;
    do {
      const page: Schemas["ChatPage"] = await this.#ask({ to: "manage", method: "GET", path: "/api/chats", query: { q, limit, cursor } });
      yield* page.chats;
      cursor = page.nextCursor ?? undefined;
    } while (cursor !== undefined);
  }

  /** Yields the messages of the active branch, or of the one that ends with `leaf`, newest first. */
  async *messages(chatId: string, { leaf, limit = 30 }: { leaf?: string; limit?: number } = {}): AsyncGenerator<Message, void, undefined> {
    let cursor: string | undefined;
    do {
      const path = `/api/chat/${chatId}/messages`;
      const page: Schemas["MessagePage"] = await this.#ask({ to: "manage", method: "GET", path, query: { leaf, limit, cursor } });
      yield* page.messages.reverse();
      cursor = page.nextCursor ?? undefined;
    } while (cursor !== undefined);
  }

  chat(chatId: string): Promise<Chat> {
    return this.#ask({ to: "manage", method: "GET", path: `/api/chat/${chatId}` });
  }

  /** Changes what is named; null clears it. */
  updateChat(chatId: string, body: { title?: string | null; systemPrompt?: string | null; model?: string | null }): Promise<Chat> {
    return this.#ask({ to: "manage", method: "PATCH", path: `/api/chat/${chatId}`, body });
  }

  /** Deletes a chat for good; what runs in it is cancelled. */
  deleteChat(chatId: string): Promise<void> {
    return this.#ask({ to: "manage", method: "DELETE", path: `/api/chat/${chatId}` });
  }

  /** Deletes all chats of the user for good, and returns how many there were. */
  async deleteAllChats(): Promise<number> {
    let deleted = 0;
    for (;;) {
      const found: Schemas["Deleted"] = await this.#ask({ to: "manage", method: "DELETE", path: "/api/chats" });
      deleted += found.deleted;
      if (!found.remaining) return deleted;
    }
  }

  /** Says what the user thinks of an answer; null takes it back. */
  rate(chatId: string, messageId: string, rating: "up" | "down" | null, comment?: string): Promise<void> {
    const path = `/api/chat/${chatId}/messages/${messageId}/feedback`;
    if (rating === null) return this.#ask({ to: "manage", method: "DELETE", path });
    return this.#ask({ to: "manage", method: "PUT", path, body: { rating, comment } });
  }

  async models(): Promise<Model[]> {
    return (await this.#ask<Schemas["Models"]>({ to: "manage", method: "GET", path: "/api/models" })).models;
  }
}

async function sha256(text: string): Promise<string> {
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text));
  return Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function rest(milliseconds: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(finish, milliseconds);
    signal?.addEventListener("abort", finish);
    function finish(): void {
      clearTimeout(timer);
      signal?.removeEventListener("abort", finish);
      signal?.aborted ? reject(signal.reason) : resolve();
    }
  });
}
