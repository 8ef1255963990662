// A chat with the AI SDK's useChat, on the service that `make run` starts. In this folder: npm ci && npm start
import { useChat } from "@ai-sdk/react";
import { DefaultChatTransport } from "ai";
import { useState } from "react";
import { createRoot } from "react-dom/client";

const url = new URLSearchParams(location.search).get("url") ?? "http://localhost:8000";
const headers = { "X-User-Id": "user-123" };
const id = (location.hash ||= `#${crypto.randomUUID()}`).slice(1); // the chat's name, kept over a reload
const saved = JSON.parse(sessionStorage.getItem(id) ?? "[]");

/** Stopping in the browser only leaves: this ends the answer. */
async function cancel({ chatId, userMessageId, sessionId }) {
  const path = `${url}/api/chat/${chatId}/cancel`;
  const body = JSON.stringify({ userMessageId });
  await fetch(path, { method: "POST", headers: { ...headers, "X-Session-Id": sessionId }, body });
}

function Chat() {
  const [text, setText] = useState("");
  const { messages, sendMessage, regenerate, stop, status, error } = useChat({
    id,
    messages: saved, // but for an answer that runs: `resume` tells it from its start
    resume: true,
    transport: new DefaultChatTransport({ api: `${url}/api/ui/chat`, headers }),
  });
  const ended = messages.filter(({ role, metadata }) => role === "user" || metadata?.status);
  sessionStorage.setItem(id, JSON.stringify(ended));
  const isRunning = status === "submitted" || status === "streaming";
  const onSubmit = (event) => {
    event.preventDefault();
    sendMessage({ text });
    setText("");
  };
  return (
    <form onSubmit={onSubmit}>
      {messages.map(({ id, role, parts }) => (
        <p key={id} data-role={role}>
          <b>{role}</b> {parts.map((part) => (part.type === "text" ? part.text : "")).join("")}
        </p>
      ))}
      <p role="status">{error ? error.message : status}</p>
      <input value={text} onChange={(event) => setText(event.target.value)} autoFocus />
      <button disabled={isRunning || !text.trim()}>Send</button>
      <button type="button" disabled={!isRunning} onClick={() => (stop(), cancel(messages.at(-1).metadata))}>
        Stop
      </button>
      <button type="button" disabled={isRunning || !messages.length} onClick={() => regenerate()}>
        Again
      </button>
    </form>
  );
}

createRoot(document.getElementById("root")).render(<Chat />);
