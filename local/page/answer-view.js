// One answer as it is shown while its events come. Text enters as text nodes only, never as HTML.

import { clone } from "./elements.js";
import { anchor, webAddress } from "./markdown-inline.js";
import { Markdown } from "./markdown.js";
import { words } from "./i18n.js";

const RUNNING = ["waiting", "thinking", "streaming", "stopping", "reconnecting", "elsewhere"];

export class AnswerView {
  /** The id of the answer that is shown; empty before its `start`. */
  messageId = "";
  status = "waiting";
  model = "";
  /** Told of each new status. */
  onChange = () => {};
  #parts;
  #text;
  #reasoning;
  #startedAt = 0;
  #facts = [];
  #remarks = [];
  #replay = null;
  #countdown = 0;
  #isAlone = true;

  constructor() {
    [this.element, this.#parts] = clone("answer");
    this.#empty();
    this.#parts.copy.onclick = () => copy(this.text, this.#parts.copy);
    this.show("waiting");
  }

  /** The answer's Markdown, as far as it has come. */
  get text() {
    return this.#text.source;
  }

  /** What its buttons do: `retry`, `watch`, `goOn`, `regenerate`, `step(by)`, `rate(feedback)`. */
  set actions({ retry, watch, goOn, regenerate, step, rate }) {
    this.#parts.retry.onclick = retry;
    this.#parts.watch.onclick = watch;
    this.#parts.goOn.onclick = goOn;
    this.#parts.regenerate.onclick = regenerate;
    this.#parts.previous.onclick = () => step(-1);
    this.#parts.next.onclick = () => step(1);
    const { comment, said } = this.#parts;
    for (const rating of ["up", "down"]) {
      this.#parts[rating].onclick = ({ currentTarget }) => {
        const isTakenBack = currentTarget.ariaPressed === "true";
        rate(isTakenBack ? null : { rating });
        comment.hidden = isTakenBack;
        said.value = "";
      };
    }
    comment.onsubmit = (event) => {
      event.preventDefault();
      const rating = this.#parts.up.ariaPressed === "true" ? "up" : "down";
      if (said.value.trim()) rate({ rating, comment: said.value.trim() });
      comment.hidden = true;
      this.#parts[rating].focus();
    };
  }

  get hasEnded() {
    return !RUNNING.includes(this.status);
  }

  /** What a person who does not see it is told, once, when it has ended. */
  get aloud() {
    return `${this.#parts.message.textContent || this.#parts.status.textContent || words.completedAloud} ${this.text.slice(0, 500)}`;
  }

  /** Takes the time of a message that is being sent. */
  sent() {
    this.#startedAt = performance.now();
    this.#clearProblem();
    this.show("waiting");
  }

  /** Shows one event of the stream. Returns true after the last. */
  apply({ event, data }) {
    const fields = JSON.parse(data);
    if (event === "start") this.#begin(fields);
    else if (event === "message") this.#append("text", fields.delta);
    else if (event === "reasoning") this.#append("reasoning", fields.delta);
    else if (event === "sources") this.#cite(fields.sources);
    else if (event === "failure") this.problem(failureIn(fields), { isRetryable: fields.retryable });
    else if (event === "done") this.#end(fields);
    return event === "done";
  }

  /** Shows an answer as the service has stored it. */
  fill({ messageId, content, reasoning, sources, status, finishReason, failure, usage, model, feedback }) {
    this.messageId = messageId;
    this.model = model ?? "";
    this.rated(feedback);
    if (this.text !== content) {
      this.#empty();
      this.#text.append(content);
    }
    if (reasoning && !this.#reasoning.source) this.#think(reasoning);
    this.#parts.thoughts.open = false;
    this.#parts.sources.replaceChildren();
    if (sources?.length) this.#cite(sources);
    if (status === "streaming") return this.show("elsewhere");
    this.#clearProblem();
    if (failure) this.problem(failureIn(failure), { isRetryable: failure.retryable });
    this.#end({ status, finishReason, usage, characters: Array.from(content).length });
  }

  rated(feedback) {
    for (const rating of ["up", "down"]) this.#parts[rating].ariaPressed = String(feedback?.rating === rating);
    if (!feedback) this.#parts.comment.hidden = true;
  }

  /** Says which of several versions this is; `isBusy`: another answer is on its way. */
  place(index, count, isBusy) {
    this.#parts.versions.hidden = count < 2;
    this.#parts.version.textContent = words.version(index + 1, count);
    this.#parts.previous.disabled = index === 0;
    this.#parts.next.disabled = index === count - 1;
    this.#parts.regenerate.disabled = isBusy;
    this.#isAlone = count < 2;
    this.#showTools();
  }

  /** Begins afresh. What is shown of this same answer stays until as much of it has come again. */
  #begin({ messageId, model }) {
    const isSame = messageId === this.messageId && Boolean(this.text);
    this.messageId = messageId;
    this.model = model;
    this.#clearProblem();
    if (isSame) this.#replay = { text: "", reasoning: "" };
    else this.#empty();
    this.#parts.sources.replaceChildren();
    this.#parts.citations.hidden = true;
    if (this.status !== "stopping") this.show("waiting");
  }

  #empty() {
    this.#replay = null;
    this.#parts.text.replaceChildren();
    this.#parts.reasoning.replaceChildren();
    this.#text = new Text(this.#parts.text);
    this.#reasoning = new Text(this.#parts.reasoning);
    for (const name of ["thoughts", "citations"]) this.#parts[name].hidden = true;
    this.#facts = [];
    this.#remarks = [];
  }

  #append(name, delta) {
    if (this.#replay) {
      this.#replay[name] += delta;
      if (this.#replay.text.length >= this.text.length) this.#catchUp();
    } else if (name === "text") this.#text.append(delta);
    else this.#think(delta);
    const isGoingOn = ["waiting", "thinking", "reconnecting"].includes(this.status);
    if (isGoingOn) this.show(name === "text" || this.text ? "streaming" : "thinking");
  }

  #think(delta) {
    this.#reasoning.append(delta);
    if (!this.#parts.thoughts.hidden) return;
    this.#parts.thoughts.hidden = false;
    this.#parts.thoughts.open = true;
  }

  /** What was told again has reached what is shown: it goes on from there, or takes its place if it says otherwise. */
  #catchUp() {
    const { text, reasoning } = this.#replay;
    this.#replay = null;
    if (text.startsWith(this.text) && reasoning === this.#reasoning.source) {
      this.#text.append(text.slice(this.text.length));
      return;
    }
    const { open } = this.#parts.thoughts;
    this.#empty();
    if (reasoning) this.#think(reasoning);
    this.#parts.thoughts.open = open;
    this.#text.append(text);
  }

  #cite(sources) {
    this.#parts.citations.hidden = false;
    this.#parts.sources.append(...sources.map(sourceChip));
  }

  #end({ status, finishReason, usage, characters, saved, truncated }) {
    if (this.#replay && !this.text.startsWith(this.#replay.text)) this.#catchUp();
    else if (this.#replay) this.#remarks.push(words.tailNotSaved);
    this.#replay = null;
    this.#facts = [words.characters(characters)];
    if (usage) this.#facts.unshift(words.tokens(usage.inputTokens, usage.outputTokens, usage.estimated));
    if (this.#startedAt) this.#facts.push(words.seconds(((performance.now() - this.#startedAt) / 1000).toFixed(1)));
    if (this.model) this.#facts.push(this.model);
    this.#remarks = this.#remarks.filter((remark) => remark === words.tailNotSaved);
    const remark = words[`finish_${finishReason}`];
    if (remark) this.#remarks.unshift(remark);
    if (saved === false) this.#remarks.push(words.notSaved);
    if (truncated) this.#remarks.push(words.truncated);
    this.#text.end();
    this.#reasoning.end();
    this.show(status);
    this.#parts.goOn.hidden = finishReason !== "length";
  }

  /** Says what went wrong, with a button to try again where that may help, after `waitSeconds` if there is a wait. */
  problem(message, { isRetryable = false, waitSeconds = 0, label = words.retry } = {}) {
    this.#clearProblem();
    const tell = (left) => {
      this.#parts.message.textContent = [message, left > 0 ? words.retryIn(left) : waitSeconds ? words.retryNow : ""].join(" ").trim();
      this.#parts.retry.disabled = left > 0;
      if (left > 0) this.#countdown = setTimeout(tell, 1000, left - 1);
    };
    tell(Math.ceil(waitSeconds));
    this.#parts.retry.textContent = label;
    this.#parts.retry.hidden = !isRetryable;
    this.#parts.problem.hidden = false;
  }

  #clearProblem() {
    clearTimeout(this.#countdown);
    this.#parts.message.textContent = "";
    this.#parts.problem.hidden = true;
  }

  /** Says that the service does not know this message. */
  neverSent(isRetryable) {
    this.problem(words.nothing, { isRetryable });
    this.show("notSent");
  }

  show(status) {
    if (this.#parts.thoughts.open && status === "streaming" && this.status !== "streaming") this.#parts.thoughts.open = false;
    this.status = status;
    this.#parts.watch.hidden = status !== "elsewhere";
    this.#parts.goOn.hidden = true;
    const isTold = ["failed", "interrupted", "timeout"].includes(status) && !this.#parts.problem.hidden;
    this.#parts.status.textContent = [isTold ? "" : words[status] ?? status, ...this.#remarks].filter(Boolean).join(" ");
    this.#showTools();
    this.#parts.numbers.hidden = !this.#facts.length;
    this.#parts.facts.textContent = this.#facts.join(" · ");
    if (this.hasEnded) this.#text.flush();
    this.onChange();
  }

  #showTools() {
    const isThere = this.hasEnded && Boolean(this.messageId);
    this.#parts.tools.hidden = !isThere || (!this.text && this.#isAlone && !this.#parts.problem.hidden);
    this.#parts.copy.hidden = !this.text;
  }
}

function failureIn(failure) {
  return { interrupted: words.interrupted, deadline: words.timeout }[failure.code] ?? words.failure(failure);
}

/** Markdown that comes in pieces and is drawn once a frame, whatever the number of pieces. */
class Text {
  source = "";
  #markdown;
  #waiting = "";
  #frame = 0;

  constructor(element) {
    this.#markdown = new Markdown(element, { decorateCode });
  }

  append(delta) {
    this.source += delta;
    this.#waiting += delta;
    // a tab that is not seen has no frames
    if (document.hidden) this.flush();
    else this.#frame ||= requestAnimationFrame(() => this.flush());
  }

  flush() {
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    this.#markdown.append(this.#waiting);
    this.#waiting = "";
  }

  end() {
    this.flush();
    this.#markdown.end();
  }
}

function decorateCode(pre, language) {
  const [figure, parts] = clone("code");
  parts.language.textContent = language;
  pre.tabIndex = 0;
  const button = figure.querySelector("button");
  button.onclick = () => copy(`${pre.textContent}\n`, button);
  figure.append(pre);
  return figure;
}

export async function copy(text, button) {
  const before = button.dataset.label ? "" : button.textContent;
  try {
    await navigator.clipboard.writeText(text);
    button.dataset.said = words.copied;
    if (before) button.textContent = words.copied;
  } catch {
    button.dataset.said = words.copyFailed;
  }
  button.dispatchEvent(new CustomEvent("said", { bubbles: true, detail: button.dataset.said }));
  setTimeout(() => {
    delete button.dataset.said;
    if (before) button.textContent = words.copyCode;
  }, 1500);
}

/** Only web addresses become links: anything else (`javascript:` among it) stays text. */
function sourceChip({ title, url }) {
  const item = document.createElement("li");
  const address = webAddress(url);
  if (!address?.host) {
    item.textContent = title || url;
    return item;
  }
  const host = document.createElement("span");
  host.className = "host";
  host.textContent = address.host;
  const name = document.createElement("span");
  name.textContent = title;
  item.append(anchor(address, title ? [name, " ", host] : [host]));
  return item;
}
