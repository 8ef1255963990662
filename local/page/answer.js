// One turn as it is shown: the question and the answer as its events come. Text enters as text only, never as HTML.

import { translate, words } from "./words.js";

export class AnswerView {
  /** The id of the answer that is shown; empty before its `start`. */
  messageId = "";
  status = "waiting";
  #parts = {};
  #startedAt = 0;
  #facts = [];

  constructor(content, { isForeign = false } = {}) {
    this.element = document.getElementById("turn").content.firstElementChild.cloneNode(true);
    translate(this.element);
    for (const part of this.element.querySelectorAll("[data-part]")) this.#parts[part.dataset.part] = part;
    this.#parts.question.textContent = content;
    this.#parts.origin.hidden = !isForeign;
    this.show("waiting");
  }

  set onRetry(retry) {
    this.#parts.retry.onclick = retry;
  }

  set onWatch(watch) {
    this.#parts.watch.onclick = watch;
  }

  get hasEnded() {
    return !["waiting", "streaming", "stopping", "reconnecting", "elsewhere"].includes(this.status);
  }

  /** Takes the time of a message that is being sent. */
  sent() {
    this.#startedAt = performance.now();
    this.#facts = [];
    this.#parts.problem.hidden = true;
    this.show("waiting");
  }

  /** Shows one event of the stream. Returns true after the last. */
  apply({ event, data }) {
    const fields = JSON.parse(data);
    if (event === "start") this.#begin(fields);
    else if (event === "message") this.#append("text", fields.delta);
    else if (event === "reasoning") this.#append("reasoning", fields.delta);
    else if (event === "sources") this.#cite(fields.sources);
    else if (event === "failure") this.problem(words.failure(fields), fields.retryable);
    else if (event === "done") this.#end(fields);
    return event === "done";
  }

  /** Begins afresh: what was shown of this answer before does not count. */
  #begin({ messageId }) {
    this.messageId = messageId;
    for (const name of ["text", "reasoning", "sources"]) this.#parts[name].replaceChildren();
    for (const name of ["thoughts", "citations", "problem"]) this.#parts[name].hidden = true;
    this.#facts = [];
    if (this.status !== "stopping") this.show("waiting");
  }

  #append(name, delta) {
    const part = this.#parts[name];
    if (name === "reasoning") this.#parts.thoughts.hidden = false;
    if (part.firstChild) part.firstChild.appendData(delta);
    else part.append(document.createTextNode(delta));
    if (this.status === "waiting" || this.status === "reconnecting") this.show("streaming");
  }

  #cite(sources) {
    this.#parts.citations.hidden = false;
    this.#parts.sources.append(...sources.map(sourceItem));
  }

  #end({ status, finishReason, usage, characters, saved }) {
    this.#facts = [words.tokens(usage.inputTokens, usage.outputTokens, usage.estimated), words.characters(characters)];
    if (this.#startedAt) this.#facts.push(words.seconds(((performance.now() - this.#startedAt) / 1000).toFixed(1)));
    const remark = words[`finish_${finishReason}`];
    if (remark) this.#facts.unshift(remark);
    if (saved === false) this.#facts.unshift(words.notSaved);
    this.show(status);
  }

  /** Says what went wrong, with a button to try again where that may help. */
  problem(message, isRetryable) {
    this.#parts.message.textContent = message;
    this.#parts.retry.hidden = !isRetryable;
    this.#parts.problem.hidden = false;
  }

  /** Says that the service does not know this message. */
  neverSent(isRetryable) {
    this.problem(words.nothing, isRetryable);
    this.show("notSent");
  }

  show(status) {
    this.status = status;
    this.element.dataset.status = status;
    this.element.setAttribute("aria-busy", String(!this.hasEnded));
    this.#parts.watch.hidden = status !== "elsewhere";
    this.#parts.status.textContent = words[status] ?? status;
    this.#parts.facts.textContent = this.#facts.join(" · ");
  }
}

/** Only web addresses become links: anything else (`javascript:` among it) stays text. */
function sourceItem({ title, url }) {
  const item = document.createElement("li");
  const address = URL.canParse(url) ? new URL(url) : null;
  if (address?.protocol !== "https:" && address?.protocol !== "http:") {
    item.textContent = title || url;
    return item;
  }
  const link = document.createElement("a");
  link.href = address.href;
  link.rel = "noopener noreferrer";
  link.target = "_blank";
  link.textContent = title || address.host;
  const host = document.createElement("span");
  host.className = "host";
  host.textContent = address.host;
  item.append(link, " ", host);
  return item;
}
