// npm install aiva-chat-client; node chat-client.mjs "Why is the sky blue?"   (Ctrl-C cancels the answer)
import { ChatClient } from "aiva-chat-client";

const urls = process.env.CHAT_URL ?? "http://localhost:8000";
const client = new ChatClient({ urls, headers: { "X-User-Id": "user-123" }, sessionId: "session-456" });
const answer = client.ask(await client.createChat(), process.argv[2] ?? "안녕하세요!");

process.once("SIGINT", () => answer.cancel());

for await (const event of answer) {
  if (event.type === "delta") process.stdout.write(event.delta);
  if (event.type === "failure") console.error(`\n${event.message}`);
  if (event.type === "done") console.log(`\n[${event.status}]`);
}
