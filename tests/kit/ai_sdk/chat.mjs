// A chat of the real AI SDK, driven by lines of JSON on standard input; prints its state after each.
//   node chat.mjs <ai5|ai6|ai7> <url> <headers as JSON> <chat id>
import { createInterface } from "node:readline";

const [version, url, headers, id] = process.argv.slice(2);
const { AbstractChat, DefaultChatTransport } = await import(version);

/** What @ai-sdk/react keeps in React's state. */
class State {
  status = "ready";
  error = undefined;
  messages = [];
  pushMessage = (message) => (this.messages = [...this.messages, message]);
  popMessage = () => (this.messages = this.messages.slice(0, -1));
  replaceMessage = (index, message) =>
    (this.messages = [...this.messages.slice(0, index), this.snapshot(message), ...this.messages.slice(index + 1)]);
  snapshot = (value) => structuredClone(value);
}

class Chat extends AbstractChat {
  constructor(messages) {
    const state = new State();
    state.messages = messages;
    super({
      id,
      state,
      transport: new DefaultChatTransport({ api: `${url}/api/ui/chat`, headers: JSON.parse(headers) }),
      onError: () => {},
      onData: (part) => data.push(part),
    });
  }
}

const data = [];
let chat = new Chat([]);
const commands = {
  send: ({ text, messageId }) => chat.sendMessage({ text, messageId }),
  regenerate: ({ messageId }) => chat.regenerate({ messageId }),
  stop: () => chat.stop(),
  resume: () => chat.resumeStream(),
  reload: ({ keep }) => void (chat = new Chat(chat.messages.slice(0, keep))),
  look: () => {},
  settled: async () => {
    while (!["ready", "error"].includes(chat.status)) await new Promise((done) => setTimeout(done, 5));
  },
  until: async ({ text }) => {
    const said = () => chat.lastMessage?.parts.map((part) => part.text ?? "").join("") ?? "";
    while (!said().includes(text)) await new Promise((done) => setTimeout(done, 5));
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const { do: name, wait = true, ...options } = JSON.parse(line);
  const doing = commands[name](options);
  if (wait) await doing;
  const { status, error, messages } = chat;
  console.log(JSON.stringify({ status, error: error?.message, messages, data }));
}
process.exit(0);
