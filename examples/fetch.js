// In a browser, without a library. `sse.js` is the chat page's own reader (local/page/sse.js): copy it.
import { followAnswer } from "/sse.js";

const headers = { "X-User-Id": "user-123", "X-Session-Id": "session-456" };

export async function createChat() {
  const response = await fetch("/api/chat/create", { method: "POST", headers });
  return (await response.json()).chatId;
}

/** Calls `show` with the text so far, whenever there is more of it. Returns how the answer ended. */
export async function ask(chatId, content, show) {
  // Our own id for the message: a request that is sent again starts nothing twice.
  const body = JSON.stringify({ content, userMessageId: crypto.randomUUID() });
  const connect = (lastEventId, signal) =>
    fetch(`/api/chat/${chatId}/stream`, {
      method: "POST",
      headers: { ...headers, "Last-Event-ID": lastEventId },
      body,
      signal,
    });
  let text = "";
  for await (const { event, data } of followAnswer({ connect })) {
    const fields = JSON.parse(data);
    if (event === "start") text = ""; // always means: begin afresh
    if (event === "message") show((text += fields.delta));
    if (event === "done") return fields.status;
  }
}

export async function cancel(chatId) {
  const response = await fetch(`/api/chat/${chatId}/cancel`, { method: "POST", headers });
  return response.json();
}
