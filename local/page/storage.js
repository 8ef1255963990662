// What this browser remembers. Of this tab: its devices, its chat, a token. Of all tabs: the user, and what was asked
// in the latest chats (the service keeps the answers and tells them again). Without storage it forgets at a reload.

const CHATS = "chat.chats";
const USER = "chat.user";
const KEPT_CHATS = 5;
const KEPT_TURNS = 30;

/** A random UUID, also where the page is not served from a secure origin and `crypto.randomUUID` is missing. */
export function newId() {
  if (crypto.randomUUID) return crypto.randomUUID();
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}

/** A choice of the reader's for all pages of this service, `language` or `theme`; empty where there is none. */
export function preference(name) {
  return new Shelf("localStorage").get(`chat.${name}`) ?? "";
}

export function prefer(name, value) {
  new Shelf("localStorage").set(`chat.${name}`, value);
}

/** Tells of `change` when another device, here or in another tab, asked something or got its answer. */
export class Storage extends EventTarget {
  #tab = new Shelf("sessionStorage");
  #all = new Shelf("localStorage");
  #claimed = new Set();

  constructor() {
    super();
    addEventListener("storage", (event) => {
      if (event.key === CHATS) this.#changed();
    });
    if (this.chatId === null) this.chatId = Object.keys(this.#chats()).at(-1) ?? "";
  }

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

  /** What is written and not sent, on one of this tab's devices. */
  draft(number) {
    return this.#tab.get(`chat.draft.${number}`) ?? "";
  }

  keepDraft(number, text) {
    this.#tab.set(`chat.draft.${number}`, text);
  }

  get isSecondOpen() {
    return this.#tab.get("chat.second") === "open";
  }

  set isSecondOpen(isOpen) {
    this.#tab.set("chat.second", isOpen ? "open" : "");
  }

  /** This tab's chat; empty before it is created. */
  get chatId() {
    return this.#tab.get("chat.id");
  }

  set chatId(chatId) {
    this.#tab.set("chat.id", chatId);
  }

  /** The key of the chat to be created next: the same until it is there, so that a lost request can be sent again. */
  get creationKey() {
    let key = this.#tab.get("chat.key");
    if (!key) this.#tab.set("chat.key", (key = newId()));
    return key;
  }

  chatCreated(chatId) {
    this.chatId = chatId;
    this.#tab.set("chat.key", "");
  }

  leaveChat() {
    this.chatCreated("");
  }

  /** Forgets the chat everywhere: the service does not know it. */
  forgetChat(chatId) {
    const chats = this.#chats();
    delete chats[chatId];
    this.#all.set(CHATS, JSON.stringify(chats));
    if (this.chatId === chatId) this.leaveChat();
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

  /** What was asked in the chat, in order: `{ userMessageId, content, session, hasEnded }`. */
  turns(chatId) {
    return this.#chats()[chatId] ?? [];
  }

  /** Remembers a turn, or what is new about it. */
  keep(chatId, turn) {
    const { [chatId]: turns = [], ...others } = this.#chats();
    const index = turns.findIndex((known) => known.userMessageId === turn.userMessageId);
    turns.splice(index < 0 ? turns.length : index, index < 0 ? 0 : 1, turn);
    const latest = Object.entries(others).slice(1 - KEPT_CHATS);
    const chats = Object.fromEntries([...latest, [chatId, turns.slice(-KEPT_TURNS)]]);
    this.#all.set(CHATS, JSON.stringify(chats));
    this.#changed();
  }

  #chats() {
    try {
      return JSON.parse(this.#all.get(CHATS)) ?? {};
    } catch {
      return {};
    }
  }

  #changed() {
    this.dispatchEvent(new Event("change"));
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
