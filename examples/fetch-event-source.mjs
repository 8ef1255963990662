// npm install @microsoft/fetch-event-source; node fetch-event-source.mjs "Why is the sky blue?"   (Ctrl-C cancels)
import { fetchEventSource } from "@microsoft/fetch-event-source";

// The library is made for browsers: two names that Node lacks.
if (!globalThis.window) Object.assign(globalThis, { window: globalThis, document: new EventTarget() });

const url = process.env.CHAT_URL ?? "http://localhost:8000";
const headers = { "X-User-Id": "user-123", "X-Session-Id": "session-456" };
const { chatId } = await (await fetch(`${url}/api/chat/create`, { method: "POST", headers })).json();

process.once("SIGINT", () => fetch(`${url}/api/chat/${chatId}/cancel`, { method: "POST", headers }));

class Refused extends Error {}
const stop = new AbortController();
let lastEventId = "";

await fetchEventSource(`${url}/api/chat/${chatId}/stream`, {
  method: "POST",
  headers,
  // Our own id for the message: a request that is sent again starts nothing twice.
  body: JSON.stringify({ content: process.argv[2] ?? "안녕하세요!", userMessageId: crypto.randomUUID() }),
  // The library's own Last-Event-ID may name an event of which only the id arrived; this one arrived whole.
  fetch: (input, init) => fetch(input, { ...init, headers: { ...init.headers, "last-event-id": lastEventId } }),
  signal: stop.signal,
  async onopen(response) {
    if (response.status >= 500) throw new Error(`HTTP ${response.status}`);
    if (!response.ok) throw new Refused(await response.text());
  },
  onmessage({ id, event, data }) {
    if (id) lastEventId = id; // a replay's events have none: its start's stays
    const fields = JSON.parse(data);
    if (event === "") process.stdout.write(fields.delta);
    if (event === "failure") console.error(`\n${fields.message}`);
    if (event === "done") {
      console.log(`\n[${fields.status}]`);
      stop.abort();
    }
  },
  onclose() {
    throw new Error("The connection ended before the answer.");
  },
  onerror(error) {
    if (error instanceof Refused) throw error; // gives up; anything else connects again
  },
});
