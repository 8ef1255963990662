// The service's routes as functions. Who is calling comes from the storage, which device from the caller.

import { ProblemError } from "./sse.js";

export class ApiClient {
  #storage;
  #creating = { key: "", chat: null };

  constructor(storage) {
    this.#storage = storage;
  }

  /** Returns this tab's chat and creates it first where there is none, once however many devices ask. */
  chat() {
    if (this.#storage.chatId) return Promise.resolve(this.#storage.chatId);
    const key = this.#storage.creationKey;
    if (this.#creating.key !== key) {
      const chat = this.#create(key).finally(() => (this.#creating = { key: "", chat: null }));
      this.#creating = { key, chat };
    }
    return this.#creating.chat;
  }

  async #create(key) {
    const response = await fetch("/api/chat/create", {
      method: "POST",
      headers: { ...this.#identity(), "Idempotency-Key": key },
    });
    if (!response.ok) throw await ProblemError.from(response);
    const { chatId } = await response.json();
    if (this.#storage.creationKey === key) this.#storage.chatCreated(chatId);
    return chatId;
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

  /** Sends a message. Sending it again with the same id is safe: it starts nothing twice. */
  send(chatId, session, { userMessageId, content }, signal) {
    return fetch(`/api/chat/${chatId}/stream`, {
      method: "POST",
      headers: { ...this.#identity(session), "Content-Type": "application/json" },
      body: JSON.stringify({ userMessageId, content }),
      signal,
    });
  }

  /** Follows an answer after the event that was seen last, or the answer that is named from its start. */
  follow(chatId, session, { lastEventId, ...named }, signal) {
    const headers = this.#identity(session);
    if (lastEventId) headers["Last-Event-ID"] = lastEventId;
    const query = lastEventId ? "" : `?${new URLSearchParams(named)}`;
    return fetch(`/api/chat/${chatId}/stream${query}`, { headers, signal, cache: "no-store" });
  }

  /** Stops the answer that is named, by its own id or by that of the message it answers. */
  async cancel(chatId, session, named) {
    const response = await fetch(`/api/chat/${chatId}/cancel`, {
      method: "POST",
      headers: { ...this.#identity(session), "Content-Type": "application/json" },
      body: JSON.stringify(named),
      keepalive: true,
    });
    if (!response.ok) throw await ProblemError.from(response);
    return response.json();
  }

  #identity(session) {
    const { token, user } = this.#storage;
    const headers = token ? { Authorization: `Bearer ${token}` } : { "X-User-Id": user };
    if (session) headers["X-Session-Id"] = session;
    return headers;
  }
}
