// Puts the page together: one device, a second beside it when asked for, the menu, the account.

import { ApiClient } from "./api-client.js";
import { ChatView } from "./chat-view.js";
import { language, translate, words } from "./i18n.js";
import { Storage, prefer, preference } from "./storage.js";

document.documentElement.lang = language;
document.title = words.title;
translate(document.body);

const storage = new Storage();
const api = new ApiClient(storage);
const settings = await api.pageSettings();
const devices = document.getElementById("devices");
const secondButton = document.getElementById("second");
const menu = document.getElementById("menu");
const views = [null, null];

// ---- devices

async function open(number) {
  const session = await storage.session(number);
  const name = number === 0 ? words.thisDevice : words.otherDevice;
  views[number] = new ChatView({ storage, api, session, name, number, mostCharacters: settings.maxContentCharacters });
  devices.append(views[number].element);
  devices.dataset.count = String(views.filter(Boolean).length);
}

/** Puts the cursor where one would write next, unless the visitor, who need not wait for us, writes already. */
function focus(number) {
  if (!devices.contains(document.activeElement)) views[number].focus();
}

function close(number) {
  views[number]?.close();
  views[number] = null;
  devices.dataset.count = String(views.filter(Boolean).length);
}

async function openAll() {
  await open(0);
  if (storage.isSecondOpen) await open(1);
  secondButton.setAttribute("aria-pressed", String(storage.isSecondOpen));
  if (matchMedia("(pointer: fine)").matches) focus(0);
}

async function startNewChat() {
  close(0);
  close(1);
  storage.leaveChat();
  await openAll();
}

secondButton.addEventListener("click", async () => {
  menu.hidePopover();
  storage.isSecondOpen = !storage.isSecondOpen;
  secondButton.setAttribute("aria-pressed", String(storage.isSecondOpen));
  if (!storage.isSecondOpen) return close(1);
  await open(1);
  focus(1);
});

document.getElementById("new").addEventListener("click", startNewChat);
addEventListener("keydown", (event) => {
  if (!(event.ctrlKey || event.metaKey) || !event.shiftKey || event.key.toLowerCase() !== "o") return;
  event.preventDefault();
  startNewChat();
});

// ---- the menu

document.getElementById("model").textContent = settings.isDemo ? words.demo : settings.model;

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
const needsToken = settings.auth === "jwt";

function showAccount(note = needsToken ? words.accountToken : words.accountNote) {
  menu.hidePopover();
  document.getElementById("account-note").textContent = note;
  document.getElementById("account-user").hidden = needsToken;
  account.querySelector("[name=token]").required = needsToken;
  account.querySelector("[name=user]").value = storage.user;
  account.querySelector("[name=token]").value = storage.token;
  if (!account.open) account.showModal();
}

document.getElementById("open-account").addEventListener("click", () => showAccount());
devices.addEventListener("unauthenticated", () => showAccount(storage.token ? words.accountRefused : words.accountToken));
document.getElementById("close-account").addEventListener("click", () => account.close());
// At once, not when the dialog has told that it closed: nothing may be written meanwhile as who one was before.
account.querySelector("form").addEventListener("submit", async () => {
  const user = account.querySelector("[name=user]").value.trim();
  const token = account.querySelector("[name=token]").value.trim();
  const isOther = user !== storage.user || Boolean(token) !== Boolean(storage.token);
  storage.token = token;
  if (user) storage.user = user;
  if (isOther) await startNewChat();
});

await openAll();
if (needsToken && !storage.token) showAccount();
