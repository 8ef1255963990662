// What this browser remembers. Of this tab: its devices, a token, what is written or on its way. Of all tabs: the user and
// the reader's choices. Chats are the service's to keep. Without storage it forgets at a reload.

const USER = "chat.user";

/** A random UUID, also where the page is not served from a secure origin and `crypto.randomUUID` is missing. */
export function newId() {
  if (crypto.randomUUID) return crypto.randomUUID();
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}

/** A choice of the reader's for all pages of this service: `language`, `theme`, `model`; empty where there is none. */
export function preference(name) {
  return new Shelf("localStorage").get(`chat.${name}`) ?? "";
}

export function prefer(name, value) {
  new Shelf("localStorage").set(`chat.${name}`, value);
}

export class Storage {
  #tab = new Shelf("sessionStorage");
  #all = new Shelf("localStorage");
  #claimed = new Set();

  get user() {
    let user = this.#all.get(USER);
    if (!user) this.#all.set(USER, (user = `guest-${newId().slice(0, 8)}`));
    return user;
  }

  set user(user) {
    this.#all.set(USER, user);
  }

  get token() {
    return this.#tab.get("chat.token") ?? "";
  }

  set token(token) {
    this.#tab.set("chat.token", token);
  }

  get isSecondOpen() {
    return this.#tab.get("chat.second") === "open";
  }

  set isSecondOpen(isOpen) {
    this.#tab.set("chat.second", isOpen ? "open" : "");
  }

  /** What is written and not sent, in one chat on one of this tab's devices. */
  draft(chatId, number) {
    return this.#tab.get(`chat.draft.${number}.${chatId}`) ?? "";
  }

  keepDraft(chatId, number, text) {
    this.#tab.set(`chat.draft.${number}.${chatId}`, text);
  }

  /** The key of the chat to be created next: the same until it is there, so that a lost request can be sent again. */
  get creationKey() {
    let key = this.#tab.get("chat.key");
    if (!key) this.#tab.set("chat.key", (key = newId()));
    return key;
  }

  forgetCreationKey() {
    this.#tab.set("chat.key", "");
  }

  /** What this tab has asked for and not seen the end of, oldest first; `chatId` is empty before the chat is created. */
  outgoing(chatId, session) {
    return this.#outbox().filter((request) => request.chatId === chatId && request.session === session);
  }

  keepOutgoing(request) {
    const others = this.#outbox().filter(({ key }) => key !== request.key);
    this.#tab.set("chat.outbox", JSON.stringify([...others, request]));
  }

  dropOutgoing({ key }) {
    this.#tab.set("chat.outbox", JSON.stringify(this.#outbox().filter((request) => request.key !== key)));
  }

  /** What was meant for a chat that is not there. */
  dropChat(chatId) {
    this.#tab.set("chat.outbox", JSON.stringify(this.#outbox().filter((request) => request.chatId !== chatId)));
  }

  /** The session of one of this tab's devices. It survives a reload, but a copy of the tab gets one of its own. */
  async session(number) {
    const name = `chat.session.${number}`;
    let session = this.#tab.get(name);
    if (this.#claimed.has(session)) return session;
    if (!session || !(await claim(session))) {
      this.#tab.set(name, (session = `web-${newId()}`));
      await claim(session);
    }
    this.#claimed.add(session);
    return session;
  }

  #outbox() {
    try {
      return JSON.parse(this.#tab.get("chat.outbox")) ?? [];
    } catch {
      return [];
    }
  }
}

/** Claims a session for as long as this tab lives; false when another tab has it (a copied tab copies its storage). */
async function claim(session) {
  if (!navigator.locks || (await lock(session, { ifAvailable: true }))) return true;
  // a page that is reloaded may let go of its own claim a moment late
  return lock(session, { signal: AbortSignal.timeout(500) });
}

function lock(name, options) {
  return new Promise((resolve) => {
    const hold = (lock) => {
      resolve(Boolean(lock));
      return lock && new Promise(() => {});
    };
    navigator.locks.request(name, options, hold).catch(() => resolve(false));
  });
}

/** A storage that may be forbidden or full: then it lasts as long as the page. */
class Shelf {
  #own = new Map();

  constructor(name) {
    try {
      this.storage = globalThis[name];
    } catch {
      this.storage = null;
    }
  }

  get(key) {
    return this.#own.get(key) ?? this.storage?.getItem(key) ?? null;
  }

  set(key, value) {
    this.#own.delete(key);
    try {
      this.storage.setItem(key, value);
    } catch {
      this.#own.set(key, value);
    }
  }
}
