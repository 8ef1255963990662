// The service's routes as functions. Who is calling comes from the storage, which device from the caller.

import { ProblemError } from "./sse.js";

export class ApiClient {
  #storage;
  /** Where the token goes: another header where something in front takes `Authorization` for itself. */
  tokenHeader = "Authorization";

  constructor(storage) {
    this.#storage = storage;
  }

  /** What whoever serves the page says of the service; nothing where the page is served by something else. */
  async pageSettings() {
    const settings = { maxContentCharacters: 32_000, model: "", isDemo: false, auth: "header" };
    try {
      const response = await fetch("/page-settings.json", { cache: "no-store" });
      return { ...settings, ...(response.ok ? await response.json() : {}) };
    } catch {
      return settings;
    }
  }

  // ---- chats

  /** Creates a chat; the same key gives the same chat. Returns its id. */
  async create(key) {
    const { chatId } = await this.#json("POST", "/api/chat/create", { headers: { "Idempotency-Key": key } });
    return chatId;
  }

  /** A page of the user's chats, newest activity first, or of those that `q` finds. */
  chats({ cursor = "", q = "" } = {}) {
    return this.#json("GET", `/api/chats?${query({ cursor, q })}`);
  }

  chat(chatId) {
    return this.#json("GET", `/api/chat/${chatId}`);
  }

  /** A page of a chat's whole tree: the newest, or what lies before `cursor`. */
  messages(chatId, cursor = "") {
    return this.#json("GET", `/api/chat/${chatId}/messages?${query({ all: "true", limit: "100", cursor })}`);
  }

  update(chatId, changes) {
    return this.#json("PATCH", `/api/chat/${chatId}`, { body: changes });
  }

  /** Deletes a chat for good; also while the page is being left. */
  remove(chatId) {
    return this.#json("DELETE", `/api/chat/${chatId}`, { keepalive: true });
  }

  rate(chatId, messageId, feedback) {
    const path = `/api/chat/${chatId}/messages/${messageId}/feedback`;
    return feedback ? this.#json("PUT", path, { body: feedback }) : this.#json("DELETE", path);
  }

  models() {
    return this.#json("GET", "/api/models");
  }

  // ---- answers

  /** Sends a message, or asks for another answer. Sending it again with the same ids is safe: it starts nothing twice. */
  async send(chatId, session, body, signal) {
    const content = JSON.stringify(body);
    const headers = { ...this.#identity(session), ...(await describing(content)) };
    return fetch(`/api/chat/${chatId}/stream`, { method: "POST", headers, body: content, signal });
  }

  /** Follows an answer after the event that was seen last, or the answer that is named from its start. */
  follow(chatId, session, { lastEventId, messageId }, signal) {
    const headers = this.#identity(session);
    if (lastEventId) headers["Last-Event-ID"] = lastEventId;
    const named = lastEventId ? "" : `?${query({ messageId })}`;
    return fetch(`/api/chat/${chatId}/stream${named}`, { headers, signal, cache: "no-store" });
  }

  /** Stops the answer that is named, by its own id or by that of the message it answers. */
  cancel(chatId, session, named) {
    return this.#json("POST", `/api/chat/${chatId}/cancel`, { body: named, session, keepalive: true });
  }

  async #json(method, path, { body, headers = {}, session = "", keepalive = false } = {}) {
    const content = body && JSON.stringify(body);
    const response = await fetch(path, {
      method,
      headers: { ...this.#identity(session), ...headers, ...(content ? await describing(content) : {}) },
      body: content,
      cache: "no-store",
      keepalive,
    });
    if (!response.ok) throw await ProblemError.from(response);
    return response.status === 204 ? null : response.json();
  }

  #identity(session) {
    const { token, user } = this.#storage;
    const own = this.tokenHeader;
    const said = own === "Authorization" ? `Bearer ${token}` : token;
    const headers = token ? { [own]: said } : { "X-User-Id": user };
    if (session) headers["X-Session-Id"] = session;
    return headers;
  }
}

/** The headers of a body. CloudFront passes one on to a Function URL only with its digest, which secure pages can make. */
async function describing(content) {
  const headers = { "Content-Type": "application/json" };
  if (!globalThis.crypto?.subtle) return headers;
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(content)));
  return { ...headers, "x-amz-content-sha256": Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("") };
}

function query(values) {
  return new URLSearchParams(Object.entries(values).filter(([, value]) => value));
}
