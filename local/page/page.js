// Puts the page together: one device, a second beside it when asked for, the account.

import { Memory } from "./memory.js";
import { Pane } from "./pane.js";
import { Service } from "./service.js";
import { language, translate, words } from "./words.js";

document.documentElement.lang = language;
document.title = words.title;
translate(document.body);

const memory = new Memory();
const service = new Service(memory);
const devices = document.getElementById("devices");
const secondButton = document.getElementById("second");
const account = document.getElementById("account");
const panes = [null, null];

async function open(number) {
  const session = await memory.session(number);
  const name = number === 0 ? words.thisDevice : words.otherDevice;
  panes[number] = new Pane({ memory, service, session, name });
  devices.append(panes[number].element);
  devices.dataset.count = String(panes.filter(Boolean).length);
}

/** Puts the cursor where one would write next, unless the visitor, who need not wait for us, writes already. */
function focus(number) {
  if (!devices.contains(document.activeElement)) panes[number].focus();
}

function close(number) {
  panes[number]?.close();
  panes[number] = null;
  devices.dataset.count = String(panes.filter(Boolean).length);
}

async function openAll() {
  await open(0);
  if (memory.isSecondOpen) await open(1);
  secondButton.setAttribute("aria-pressed", String(memory.isSecondOpen));
  if (matchMedia("(pointer: fine)").matches) focus(0);
}

async function startNewChat() {
  close(0);
  close(1);
  memory.leaveChat();
  await openAll();
}

secondButton.addEventListener("click", async () => {
  memory.isSecondOpen = !memory.isSecondOpen;
  secondButton.setAttribute("aria-pressed", String(memory.isSecondOpen));
  if (!memory.isSecondOpen) return close(1);
  await open(1);
  focus(1);
});

document.getElementById("new").addEventListener("click", startNewChat);

function showAccount() {
  account.querySelector("[name=user]").value = memory.user;
  account.querySelector("[name=token]").value = memory.token;
  if (!account.open) account.showModal();
}

document.getElementById("open-account").addEventListener("click", showAccount);
devices.addEventListener("unauthenticated", showAccount);
document.getElementById("close-account").addEventListener("click", () => account.close());
// At once, not when the dialog has told that it closed: nothing may be written meanwhile as who one was before.
account.querySelector("form").addEventListener("submit", async () => {
  const user = account.querySelector("[name=user]").value.trim();
  const token = account.querySelector("[name=token]").value.trim();
  const isOther = user !== memory.user || Boolean(token) !== Boolean(memory.token);
  memory.token = token;
  if (user) memory.user = user;
  if (isOther) await startNewChat();
});

await openAll();
