// The list of chats: by day, found by their words, renamed, deleted with a while to undo it.

import { clone } from "./elements.js";
import { language, words } from "./i18n.js";

const SEARCH_AFTER_MS = 250;
const LEAST_SEARCHED = 2;
const UNDO_MS = 7_000;
const DAY_MS = 86_400_000;

export class Sidebar {
  #api;
  #news;
  #list = document.getElementById("chats");
  #search = document.getElementById("search");
  #menu = document.getElementById("chat-menu");
  #toast = document.getElementById("toast");
  #chats = [];
  #cursor = null;
  #current = "";
  #asked = 0;
  #timer = 0;
  #picked = null;
  #removing = null;
  #failed = false;
  #isLoaded = false;

  /** `onListed()` when the list has changed, `onRemoved(chatId)` when a chat is taken from the list, `onRestored(chatId)` when that is undone. */
  constructor({ api, news, onListed, onRemoved, onRestored }) {
    this.#api = api;
    this.#news = news;
    this.onListed = onListed;
    this.onRemoved = onRemoved;
    this.onRestored = onRestored;
    this.#search.addEventListener("input", () => {
      clearTimeout(this.#timer);
      this.#timer = setTimeout(() => this.refresh(), SEARCH_AFTER_MS);
    });
    document.getElementById("rename-chat").onclick = () => {
      this.#menu.hidePopover();
      this.#rename(this.#picked);
    };
    document.getElementById("delete-chat").onclick = () => {
      this.#menu.hidePopover();
      this.#remove(this.#picked);
    };
    this.#menu.addEventListener("keydown", (event) => {
      if (event.key !== "ArrowDown" && event.key !== "ArrowUp") return;
      const items = [...this.#menu.querySelectorAll("button")];
      items[(items.indexOf(document.activeElement) + 1) % items.length].focus(); // there are two
      event.preventDefault();
    });
    this.#toast.querySelector("button").onclick = () => this.#undo();
    addEventListener("pagehide", () => this.#removeNow());
  }

  /** Marks the chat that is open. */
  set current(chatId) {
    this.#current = chatId;
    for (const link of this.#list.querySelectorAll("a")) {
      if (link.pathname === `/c/${chatId}`) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
  }

  /** The title of a chat that is listed; empty when it has none, or is not listed. */
  titleOf(chatId) {
    return this.#chats.find((chat) => chat.chatId === chatId)?.title ?? "";
  }

  get #q() {
    const words = this.#search.value.trim();
    return Array.from(words).length < LEAST_SEARCHED ? "" : words;
  }

  /** Loads the list anew. */
  async refresh() {
    await this.#load("");
  }

  async #load(cursor) {
    const asked = ++this.#asked;
    try {
      const { chats, nextCursor } = await this.#api.chats({ cursor, q: this.#q });
      if (asked !== this.#asked) return;
      const known = new Set(cursor ? this.#chats.map((chat) => chat.chatId) : []);
      this.#chats = [...(cursor ? this.#chats : []), ...chats.filter((chat) => !known.has(chat.chatId))];
      this.#cursor = nextCursor;
      this.#failed = false;
      this.#isLoaded = true;
    } catch (error) {
      if (asked !== this.#asked) return;
      this.#failed = error.code !== "unauthenticated";
      if (error.code === "unauthenticated") this.#list.dispatchEvent(new Event("unauthenticated", { bubbles: true }));
    }
    this.#show();
  }

  // ---- showing

  #show() {
    this.onListed();
    if (this.#list.querySelector("input:not([hidden])")) return; // a name is being written
    const focused = document.activeElement?.closest?.("#chats li")?.dataset.chat;
    const { scrollTop } = this.#list;
    const shown = this.#chats.filter((chat) => chat.chatId !== this.#removing?.chat.chatId);
    const now = new Date();
    const groups = Map.groupBy(shown, (chat) => (this.#q ? "" : dayOf(new Date(chat.updatedAt), now)));
    this.#list.replaceChildren(...[...groups].flatMap(([day, chats]) => this.#group(day, chats)));
    const nothing = this.#failed ? words.chatsFailed : this.#q ? words.nothingFound : words.noChats;
    if (this.#failed || (this.#isLoaded && !shown.length)) this.#list.append(paragraph(nothing));
    if (this.#cursor) this.#list.append(this.#moreButton());
    this.#list.scrollTop = scrollTop;
    if (focused) this.#list.querySelector(`li[data-chat="${focused}"] a`)?.focus();
  }

  #group(day, chats) {
    const list = document.createElement("ul");
    list.append(...chats.map((chat) => this.#item(chat)));
    if (!day) return [list];
    const heading = document.createElement("h2");
    heading.textContent = day;
    return [heading, list];
  }

  #item(chat) {
    const [item, parts] = clone("chat-item");
    item.dataset.chat = chat.chatId;
    const title = chat.title || chat.preview || words.untitled;
    parts.link.href = `/c/${chat.chatId}`;
    parts.link.title = title;
    parts.title.textContent = title;
    if (chat.chatId === this.#current) parts.link.setAttribute("aria-current", "page");
    parts.snippet.textContent = chat.snippet ?? "";
    parts.snippet.hidden = !chat.snippet;
    parts.more.onclick = () => this.#openMenu(chat, parts.more);
    item.addEventListener("keydown", (event) => {
      if (event.target !== parts.link) return;
      if (event.key === "F2") this.#rename(chat);
      else if (event.key === "Delete") this.#remove(chat);
      else if (event.key === "ArrowDown" || event.key === "ArrowUp") this.#move(parts.link, event.key === "ArrowDown" ? 1 : -1);
      else return;
      event.preventDefault();
    });
    return item;
  }

  #move(link, by) {
    const links = [...this.#list.querySelectorAll("a")];
    links[links.indexOf(link) + by]?.focus();
  }

  #moreButton() {
    const more = document.createElement("button");
    more.className = "item more";
    more.textContent = words.moreChats;
    more.onclick = () => this.#load(this.#cursor);
    return more;
  }

  #openMenu(chat, button) {
    this.#picked = chat;
    const { bottom, right } = button.getBoundingClientRect();
    this.#menu.showPopover();
    const { offsetHeight, offsetWidth } = this.#menu;
    this.#menu.style.top = `${Math.max(8, Math.min(bottom, innerHeight - offsetHeight - 8))}px`;
    this.#menu.style.left = `${Math.max(8, Math.min(right - 32, innerWidth - offsetWidth - 8))}px`;
    this.#menu.querySelector("button").focus();
  }

  // ---- renaming

  #rename(chat) {
    const item = this.#list.querySelector(`li[data-chat="${chat.chatId}"]`);
    if (!item) return;
    const [link, field] = [item.querySelector("a"), item.querySelector("input")];
    const finish = async (isKept, isByKey = false) => {
      if (field.hidden) return;
      const title = field.value.trim();
      field.hidden = true;
      link.hidden = false;
      if (isByKey) link.focus();
      if (isKept && title && title !== chat.title) await this.#storeTitle(chat, title);
    };
    field.value = chat.title || chat.preview || "";
    field.hidden = false;
    link.hidden = true;
    field.focus();
    field.select();
    field.onblur = () => finish(true);
    field.onkeydown = (event) => {
      if (event.isComposing || event.keyCode === 229) return;
      if (event.key === "Enter" || event.key === "Escape") finish(event.key === "Enter", true);
    };
  }

  async #storeTitle(chat, title) {
    const before = chat.title;
    chat.title = title;
    this.#show();
    try {
      await this.#api.update(chat.chatId, { title });
    } catch {
      chat.title = before;
      this.#say(words.renameFailed);
    }
    this.#show();
    this.#news.tell(chat.chatId, "listed");
  }

  // ---- deleting

  /** Takes a chat from the list. It is deleted, which is final, only once the time to undo has passed. */
  #remove(chat) {
    this.#removeNow();
    this.#removing = { chat, timer: setTimeout(() => this.#removeNow(), UNDO_MS), wasOpen: chat.chatId === this.#current };
    const next = this.#list.querySelector(`li[data-chat="${chat.chatId}"]`)?.nextElementSibling;
    this.#show();
    (next && this.#list.querySelector(`li[data-chat="${next.dataset.chat}"] a`))?.focus();
    this.#say(words.removed, true);
    this.onRemoved(chat.chatId);
  }

  #undo() {
    if (!this.#removing) return;
    const { chat, timer, wasOpen } = this.#removing;
    clearTimeout(timer);
    this.#removing = null;
    this.#toast.hidden = true;
    this.#show();
    if (wasOpen) this.onRestored(chat.chatId);
  }

  async #removeNow() {
    if (!this.#removing) return;
    const { chat, timer } = this.#removing;
    clearTimeout(timer);
    this.#removing = null;
    this.#toast.hidden = true;
    this.#chats = this.#chats.filter((other) => other !== chat);
    try {
      await this.#api.remove(chat.chatId);
      this.#news.tell(chat.chatId, "removed");
    } catch (error) {
      if (error.code === "chat_not_found") return;
      this.#say(words.removeFailed);
      await this.refresh();
    }
  }

  #say(text, mayUndo = false) {
    this.#toast.querySelector("span").textContent = text;
    this.#toast.querySelector("button").hidden = !mayUndo;
    this.#toast.hidden = false;
    if (!mayUndo) setTimeout(() => (this.#toast.hidden = this.#removing === null), 4_000);
  }
}

/** The heading that a chat stands under, by the reader's own calendar. */
export function dayOf(when, now) {
  const midnight = new Date(now.getFullYear(), now.getMonth(), now.getDate());
  const days = Math.ceil((midnight - when) / DAY_MS);
  if (days <= 0) return words.today;
  if (days === 1) return words.yesterday;
  if (days <= 7) return words.lastWeek;
  if (days <= 30) return words.lastMonth;
  return when.toLocaleDateString(language, { year: "numeric", month: "long" });
}

function paragraph(text) {
  const made = document.createElement("p");
  made.textContent = text;
  return made;
}
