// Puts the page together: the list of chats, one device, a second beside it when asked for, the menu, the account.

import { ApiClient } from "./api-client.js";
import { ChatView } from "./chat-view.js";
import { Chat, News } from "./chat.js";
import { language, translate, words } from "./i18n.js";
import { Sidebar } from "./sidebar.js";
import { signedIn, signIn } from "./sign-in.js";
import { Storage, prefer, preference } from "./storage.js";

document.documentElement.lang = language;
translate(document.body);

const storage = new Storage();
const api = new ApiClient(storage);
const settings = await api.pageSettings();
if (settings.tokenHeader) api.tokenHeader = settings.tokenHeader;
const needsToken = settings.auth === "jwt";
const devices = document.getElementById("devices");
const secondButton = document.getElementById("second");
const menu = document.getElementById("menu");
const news = new News();
const views = [null, null];
let chat = null;
let opening = 0;

// ---- the chat that is open, and its address

const sidebar = new Sidebar({
  api,
  news,
  onListed: () => showTitle(sidebar.titleOf(chat.id)),
  onRemoved: (chatId) => chatId === chat.id && go(""),
  onRestored: (chatId) => go(chatId),
});

function addressed() {
  return /^\/c\/([^/]+)$/.exec(location.pathname)?.[1] ?? "";
}

/** Goes to a chat's address; empty: to a new chat. */
function go(chatId) {
  if (chatId !== addressed()) history.pushState(null, "", chatId ? `/c/${chatId}` : "/");
  return openChat(chatId);
}

async function openChat(chatId, notice = "") {
  const mine = ++opening;
  close(0);
  close(1);
  const opened = new Chat({ id: chatId, api, storage, onCreated: (id) => opened === chat && created(id) });
  chat = opened;
  sidebar.current = chatId;
  showTitle(sidebar.titleOf(chatId));
  showSide(false);
  await open(0);
  if (mine !== opening) return;
  if (notice) views[0].notify(notice);
  if (storage.isSecondOpen) await open(1);
  if (mine !== opening) return;
  if (matchMedia("(pointer: fine)").matches) focus(0);
  if (chatId) showModelOf(opened);
}

function created(chatId) {
  history.replaceState(null, "", `/c/${chatId}`);
  sidebar.current = chatId;
}

function showTitle(title) {
  document.title = title ? `${title} · ${words.title}` : words.title;
}

addEventListener("popstate", () => openChat(addressed()));
document.addEventListener("click", (event) => {
  const link = event.target.closest?.("a[href^='/']");
  if (!link || event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  event.preventDefault();
  go(/^\/c\/([^/]+)$/.exec(link.pathname)?.[1] ?? "");
});

news.onNews = async ({ chatId, what }) => {
  if (what === "removed" && chatId === chat.id) go("");
  if (what === "changed") return;
  await sidebar.refresh();
};
document.addEventListener("visibilitychange", () => document.hidden || sidebar.refresh());

// ---- devices

async function open(number) {
  const mine = opening;
  const session = await storage.session(number);
  if (mine !== opening) return;
  views[number] = new ChatView({
    chat,
    storage,
    api,
    session,
    number,
    name: number === 0 ? words.thisDevice : words.otherDevice,
    mostCharacters: settings.maxContentCharacters,
    model: () => (models.hidden ? "" : models.value),
    onTitle: () => {
      sidebar.refresh();
      news.tell(chat.id, "listed");
    },
    onGone: () => {
      history.replaceState(null, "", "/");
      openChat("", words.gone);
    },
  });
  devices.append(views[number].element);
  devices.dataset.count = String(views.filter(Boolean).length);
}

/** Puts the cursor where one would write next, unless the visitor, who need not wait for us, writes already. */
function focus(number) {
  const active = document.activeElement;
  if (!devices.contains(active) && !active?.matches("input, dialog *")) views[number].focus();
}

function close(number) {
  views[number]?.close();
  views[number] = null;
  devices.dataset.count = String(views.filter(Boolean).length);
}

secondButton.setAttribute("aria-pressed", String(storage.isSecondOpen));
secondButton.addEventListener("click", async () => {
  menu.hidePopover();
  storage.isSecondOpen = !storage.isSecondOpen;
  secondButton.setAttribute("aria-pressed", String(storage.isSecondOpen));
  if (!storage.isSecondOpen) return close(1);
  await open(1);
  focus(1);
});

// ---- the list: beside the chat, or a drawer over it where there is little room

const side = document.getElementById("side");
const shade = document.getElementById("shade");
const openSide = document.getElementById("open-side");
const narrow = matchMedia("(width < 48rem)");

/** On a narrow screen the list is open or not; on a wide one it is there unless the reader has put it away. */
function showSide(isOpen = !narrow.matches && preference("side") !== "closed") {
  const isShown = narrow.matches ? isOpen : preference("side") !== "closed";
  side.hidden = !isShown;
  openSide.hidden = !narrow.matches && isShown;
  openSide.setAttribute("aria-expanded", String(isShown));
  shade.hidden = !(narrow.matches && isShown);
  document.getElementById("column").inert = narrow.matches && isShown;
}

function toggleSide(isOpen) {
  if (!narrow.matches) prefer("side", isOpen ? "" : "closed");
  showSide(isOpen);
  (isOpen ? document.getElementById("close-side") : openSide).focus();
}

openSide.addEventListener("click", () => toggleSide(true));
document.getElementById("close-side").addEventListener("click", () => toggleSide(false));
shade.addEventListener("click", () => toggleSide(false));
side.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && narrow.matches && event.target.localName !== "input") toggleSide(false);
});
narrow.addEventListener("change", () => showSide());

addEventListener("keydown", (event) => {
  if (!(event.ctrlKey || event.metaKey)) return;
  const key = event.key.toLowerCase();
  if (key === "o" && event.shiftKey) go("");
  else if (key === "k" && !event.shiftKey) {
    if (side.hidden) toggleSide(true);
    document.getElementById("search").focus();
  } else return;
  event.preventDefault();
});

// ---- the model

const models = document.getElementById("models");

async function loadModels() {
  document.getElementById("model").textContent = settings.isDemo ? words.demo : settings.model;
  const known = await api.models().catch(() => ({ models: [] }));
  if (known.models.length < 2) return;
  models.replaceChildren(...known.models.map(({ id, label }) => new Option(label ?? id, id)));
  const standard = known.models.find((model) => model.default) ?? known.models[0];
  models.value = known.models.some(({ id }) => id === preference("model")) ? preference("model") : standard.id;
  models.hidden = false;
  document.getElementById("model").hidden = !settings.isDemo;
  if (chat?.id) showModelOf(chat);
}

async function showModelOf(opened) {
  if (models.hidden) return;
  const { model } = await api.chat(opened.id).catch(() => ({}));
  if (opened === chat && [...models.options].some((option) => option.value === model)) models.value = model;
}

models.addEventListener("change", () => {
  prefer("model", models.value);
  if (chat.id) api.update(chat.id, { model: models.value }).catch(() => {}); // each message names it anyway
});

// ---- the menu

for (const choice of menu.querySelectorAll("[name=theme]")) {
  choice.checked = choice.value === preference("theme");
  choice.addEventListener("change", () => {
    prefer("theme", choice.value);
    document.documentElement.dataset.theme = choice.value;
  });
}
for (const choice of menu.querySelectorAll("[name=language]")) {
  choice.checked = choice.value === language;
  choice.addEventListener("change", () => {
    prefer("language", choice.value);
    location.reload(); // answers go on, and what is written stays
  });
}

// ---- the account

const account = document.getElementById("account");

let refusal = "";
const signInButton = document.getElementById("sign-in");
signInButton.addEventListener("click", () => signIn(settings.signIn));

/** Takes the token that an OpenID provider gives to whoever comes back from it. */
async function finishSignIn() {
  try {
    storage.token = (await signedIn(settings.signIn)) ?? storage.token;
  } catch (error) {
    refusal = words.signInFailed(error.message);
  }
}

function showAccount(note = needsToken ? words.accountToken : words.accountNote) {
  if (menu.matches(":popover-open")) menu.hidePopover();
  document.getElementById("account-note").textContent = note;
  document.getElementById("account-user").hidden = needsToken;
  account.querySelector("[name=token]").required = needsToken;
  account.querySelector("[name=user]").value = storage.user;
  account.querySelector("[name=token]").value = storage.token;
  signInButton.hidden = !settings.signIn;
  if (!account.open) account.showModal();
}

function start() {
  if (needsToken && !storage.token) showAccount(refusal || undefined);
  else {
    sidebar.refresh();
    loadModels();
  }
  return openChat(addressed());
}

document.getElementById("open-account").addEventListener("click", () => showAccount());
addEventListener("unauthenticated", () => showAccount(storage.token ? words.accountRefused : words.accountToken));
document.getElementById("close-account").addEventListener("click", () => account.close());
// At once, not when the dialog has told that it closed: nothing may be written meanwhile as who one was before.
account.querySelector("form").addEventListener("submit", () => {
  const user = account.querySelector("[name=user]").value.trim();
  const token = account.querySelector("[name=token]").value.trim();
  const isOther = user !== storage.user || token !== storage.token;
  if (user !== storage.user) history.replaceState(null, "", "/"); // somebody else's chats are elsewhere
  storage.token = token;
  if (user) storage.user = user;
  if (isOther) start();
});

if (settings.signIn) await finishSignIn();
await start();
