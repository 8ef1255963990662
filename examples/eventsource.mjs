// npm install eventsource; node eventsource.mjs "Why is the sky blue?"   (Ctrl-C cancels)
import { EventSource } from "eventsource";

const url = process.env.CHAT_URL ?? "http://localhost:8000";
const headers = { "X-User-Id": "user-123", "X-Session-Id": "session-456" };
const { chatId } = await (await fetch(`${url}/api/chat/create`, { method: "POST", headers })).json();

process.once("SIGINT", () => fetch(`${url}/api/chat/${chatId}/cancel`, { method: "POST", headers }));

// Our own id for the message: a request that is sent again starts nothing twice.
const body = JSON.stringify({ content: process.argv[2] ?? "안녕하세요!", userMessageId: crypto.randomUUID() });

const source = new EventSource(`${url}/api/chat/${chatId}/stream`, {
  // What a browser's own EventSource cannot do. `init.headers` holds Last-Event-ID when it connects again.
  fetch: (input, init) => fetch(input, { ...init, method: "POST", headers: { ...init.headers, ...headers }, body }),
});
source.onmessage = ({ data }) => process.stdout.write(JSON.parse(data).delta);
source.addEventListener("failure", ({ data }) => console.error(`\n${JSON.parse(data).message}`));
source.addEventListener("done", ({ data }) => {
  source.close(); // or it would connect again
  console.log(`\n[${JSON.parse(data).status}]`);
});
source.onerror = ({ code, message }) => {
  if (source.readyState === EventSource.CLOSED) console.error(`${code}: ${message}`); // refused; else it connects again
};
