// Signs in with Cognito's hosted page, asks one question after another in a new chat, and shows the answers as they come.
import { signedIn, signIn } from "./sign-in.js";
import { followAnswer } from "./sse.js";

// The outputs of template.yaml, and where the chat is.
const oauth = "https://my-chat.auth.eu-central-1.amazoncognito.com/oauth2";
const provider = {
  authorizationEndpoint: `${oauth}/authorize`,
  tokenEndpoint: `${oauth}/token`,
  clientId: "CLIENT_ID_OF_THE_POOL",
  scope: "openid",
};
const url = "";

const [button, form, output] = ["#sign-in", "form", "output"].map((name) => document.querySelector(name));
const token = await signedIn(provider);
const headers = { Authorization: `Bearer ${token}`, "X-Session-Id": crypto.randomUUID(), "Content-Type": "application/json" };
let chatId = "";

button.hidden = Boolean(token);
form.hidden = !token;
button.onclick = () => signIn(provider);
form.onsubmit = async (event) => {
  event.preventDefault();
  const body = JSON.stringify({ content: form.elements[0].value, userMessageId: crypto.randomUUID() });
  chatId ||= (await (await fetch(`${url}/api/chat/create`, { method: "POST", headers, body: "{}" })).json()).chatId;
  const connect = (lastEventId, signal) =>
    fetch(`${url}/api/chat/${chatId}/stream`, { method: "POST", headers: { ...headers, "Last-Event-ID": lastEventId }, body, signal });
  for await (const { event: name, data } of followAnswer({ connect })) {
    if (name === "start") output.textContent = ""; // always means: begin afresh
    if (name === "message") output.textContent += JSON.parse(data).delta;
  }
};
