// One device: its session, the chat as it sees it, and the place to write.

import { AnswerView } from "./answer-view.js";
import { News } from "./chat.js";
import { Composer, isComposing } from "./composer.js";
import { BEGINNING, Conversation } from "./conversation.js";
import { clone } from "./elements.js";
import { words } from "./i18n.js";
import { ProblemError, followAnswer } from "./sse.js";
import { newId } from "./storage.js";
import { TurnView } from "./turn-view.js";

const WATCHED_AT_ONCE = 1; // a browser has six connections to one HTTP/1.1 server, for all tabs together
const HOPELESS = [400, 413, 415, 422];

export class ChatView {
  #chat;
  #storage;
  #api;
  #session;
  #model;
  #news;
  #composer;
  #parts;
  #conversation = new Conversation();
  #turns = new Map();
  #answers = new Map();
  /** What was asked and has no answer's id yet, by the key of its request: `{ request, answer }`. */
  #outgoing = new Map();
  /** Ids of the answers whose events are being read. */
  #live = new Set();
  #current = null;
  #cursor = null;
  #isLoading = false;
  #isRefreshing = false;
  #isStale = false;
  #isAtBottom = true;
  #top = 0;
  #closing = new AbortController();

  /** `model()` returns the chosen model's id; `onTitle()`, `onGone()`: the chat has a new title, or is not there. */
  constructor({ chat, storage, api, session, name, number, mostCharacters, model, onTitle, onGone }) {
    this.#chat = chat;
    this.#storage = storage;
    this.#api = api;
    this.#session = session;
    this.#model = model;
    this.onTitle = onTitle;
    this.onGone = onGone;
    this.#news = new News(this.#closing.signal);
    [this.element, this.#parts] = clone("pane");
    this.element.setAttribute("aria-label", name);
    this.#parts.name.textContent = name;
    this.#parts.session.textContent = session.slice(-4);
    this.#parts.session.title = session;
    this.#composer = new Composer(this.#parts, {
      draft: storage.draft(chat.id, number),
      keep: (text) => storage.keepDraft(chat.id, number, text),
      mostCharacters,
      send: (content) => this.#send(content),
      stop: () => this.#stop(),
    });
    this.#listen();
    this.#open();
  }

  focus() {
    this.#composer.focus();
  }

  notify(text) {
    this.#parts.notice.textContent = text;
  }

  /** Leaves; an answer that is running is finished by the service all the same. */
  close() {
    this.#closing.abort();
    this.element.remove();
  }

  #listen() {
    const { log, turns, empty, earlier } = this.#parts;
    const { signal } = this.#closing;
    this.element.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && !isComposing(event)) this.#stop();
    });
    this.element.addEventListener("said", (event) => this.#announce(event.detail));
    empty.addEventListener("click", (event) => {
      const example = event.target.closest("button");
      if (!example) return;
      this.#send(example.textContent);
      this.focus();
    });
    earlier.addEventListener("click", () => this.#loadEarlier());
    log.addEventListener("scroll", () => {
      const { scrollHeight, scrollTop, clientHeight } = log;
      const isNear = scrollHeight - scrollTop - clientHeight < 48;
      // only who scrolls up leaves the bottom: what has grown since the last scroll does not count
      this.#isAtBottom = isNear || (this.#isAtBottom && scrollTop >= this.#top);
      this.#top = scrollTop;
    });
    const sizes = new ResizeObserver(() => this.#scroll());
    sizes.observe(log);
    sizes.observe(turns);
    signal.addEventListener("abort", () => sizes.disconnect());
    this.#news.onNews = ({ chatId, what }) => {
      if (chatId === this.#chat.id && what === "changed") this.#refresh();
    };
    document.addEventListener("visibilitychange", () => document.hidden || this.#refresh(), { signal });
  }

  // ---- loading

  async #open() {
    let isThere = true;
    if (this.#chat.id) {
      this.#isLoading = true;
      this.#render();
      isThere = await this.#tryToLoad(async () => {
        await this.#loadPage();
        while (this.#cursor && !this.#conversation.turns().length) await this.#loadPage();
      });
      this.#isLoading = false;
    }
    if (!isThere || this.#closing.signal.aborted) return;
    this.#takeUp();
    this.#render();
    const running = [...this.#answers].filter(([id, answer]) => answer.status === "elsewhere" && !this.#live.has(id));
    for (const [id] of running.slice(-WATCHED_AT_ONCE)) this.#watch(id);
  }

  async #loadPage() {
    const { messages, nextCursor } = await this.#api.messages(this.#chat.id, this.#cursor ?? "");
    this.#cursor = nextCursor;
    this.#conversation.addEarlier(messages);
  }

  /** Loads until there is more to see, or nothing more. */
  async #loadEarlier() {
    const { log } = this.#parts;
    const before = this.#conversation.turns().length;
    const fromEnd = log.scrollHeight - log.scrollTop;
    await this.#tryToLoad(async () => {
      do await this.#loadPage();
      while (this.#cursor && this.#conversation.turns().length === before);
    });
    this.#render();
    log.scrollTop = log.scrollHeight - fromEnd;
  }

  /** Learns what other devices have done in this chat. */
  async #refresh() {
    this.#isStale = true;
    if (this.#isRefreshing || this.#isLoading || !this.#chat.id) return;
    this.#isRefreshing = true;
    while (this.#isStale && !this.#closing.signal.aborted) {
      this.#isStale = false;
      await this.#tryToLoad(async () => this.#learn((await this.#api.messages(this.#chat.id)).messages));
    }
    this.#isRefreshing = false;
  }

  #learn(messages) {
    if (this.#closing.signal.aborted) return;
    this.#conversation.addNewest(messages);
    for (const message of messages)
      if (message.role !== "user" && !this.#live.has(message.messageId)) this.#answers.get(message.messageId)?.fill(message);
    this.#render();
  }

  async #tryToLoad(load) {
    try {
      await load();
      return true;
    } catch (error) {
      if (this.#closing.signal.aborted) return false;
      if (error.code === "chat_not_found") this.#gone();
      else this.notify(words.messagesFailed);
      if (error.code === "unauthenticated") this.#askForToken();
      return false;
    }
  }

  #gone() {
    this.#storage.dropChat(this.#chat.id);
    this.onGone();
  }

  #askForToken() {
    this.element.dispatchEvent(new Event("unauthenticated", { bubbles: true }));
  }

  /** Goes on with what this device was in the middle of when the page was left. */
  #takeUp() {
    for (const request of this.#storage.outgoing(this.#chat.id, this.#session)) {
      const message = this.#answerTo(request);
      if (message && message.status !== "streaming") this.#storage.dropOutgoing(request);
      else if (message) this.#resume(request, message);
      else if (request.hasFailed) this.#showUnsent(request);
      else this.#ask(request);
    }
  }

  /** The answer that a request has got, as far as the service lists it. */
  #answerTo(request) {
    if (request.messageId) return this.#conversation.get(request.messageId);
    if (request.body.regenerate || !this.#conversation.get(request.body.userMessageId)) return undefined;
    this.#conversation.show(null);
    const { question, answer } = this.#conversation.turns().at(-1) ?? {};
    return question === request.body.userMessageId ? this.#conversation.get(answer) : { status: "unknown" };
  }

  #showUnsent(request) {
    const answer = this.#newAnswer();
    this.#outgoing.set(request.key, { request, answer });
    answer.neverSent(true);
  }

  // ---- asking and stopping

  /** Takes a message. One that is sent while an answer is running stops that answer. */
  #send(content, parentMessageId) {
    if (!content.trim()) return false;
    const body = { content, userMessageId: newId(), ...this.#choice() };
    if (parentMessageId !== undefined) body.parentMessageId = parentMessageId;
    else if (!this.#conversation.isAtNewest) body.parentMessageId = this.#conversation.leaf;
    if (this.#current) body.onBusy = "cancel";
    this.#ask({ key: body.userMessageId, body });
    return true;
  }

  #regenerate(userMessageId) {
    if (this.#current) return;
    const attemptId = newId();
    this.#ask({ key: attemptId, body: { regenerate: { userMessageId, attemptId }, ...this.#choice() } });
    this.focus();
  }

  #choice() {
    const model = this.#model();
    return model ? { model } : {};
  }

  /** Sends a request, or sends it again: the service knows it by its ids. */
  #ask({ hasFailed, ...known }, answer = this.#newAnswer()) {
    const request = { ...known, chatId: this.#chat.id, session: this.#session };
    const { regenerate, parentMessageId } = request.body;
    if (regenerate) this.#conversation.show(regenerate.userMessageId);
    else if (this.#conversation.get(request.body.userMessageId)) this.#conversation.show(request.body.userMessageId);
    else if (parentMessageId !== undefined) this.#conversation.show(parentMessageId ?? BEGINNING);
    const entry = { request, answer };
    this.#outgoing.set(request.key, entry);
    answer.sent();
    this.#isAtBottom = true;
    this.notify("");
    this.#run(entry);
  }

  #resume(request, message) {
    const answer = this.#answerFor(message.messageId);
    answer.sent();
    this.#run({ request: { ...request, messageId: message.messageId }, answer });
  }

  /** Reads an answer that occupies this device until it ends. */
  async #run({ request, answer }) {
    const current = { request, answer, stopping: new AbortController(), isStopping: false };
    this.#current = current;
    if (answer.messageId) this.#live.add(answer.messageId);
    this.#storage.keepOutgoing(request);
    this.#render();
    const signal = AbortSignal.any([this.#closing.signal, current.stopping.signal]);
    try {
      request.chatId = await this.#chat.ensure();
      if (signal.aborted) throw signal.reason;
      this.#storage.keepOutgoing(request);
      await this.#read(answer, current, signal);
      this.#storage.dropOutgoing(request);
    } catch (error) {
      if (this.#closing.signal.aborted) return;
      if (current.stopping.signal.aborted) this.#abandon(current);
      else this.#failed(current, error);
    }
    if (this.#closing.signal.aborted) return;
    if (this.#current === current) this.#current = null;
    this.#announce(answer.aloud);
    this.#render();
    this.#news.tell(this.#chat.id, "changed");
    this.#news.tell(this.#chat.id, "listed");
  }

  /** Shows an answer's events up to its end. `current`: this device asked for it; else it is watched. */
  async #read(answer, current, signal) {
    const connect = (lastEventId, abort) =>
      lastEventId || answer.messageId
        ? this.#api.follow(this.#chat.id, this.#session, { lastEventId, messageId: answer.messageId }, abort)
        : this.#api.send(this.#chat.id, this.#session, current.request.body, abort);
    const onCut = () => answer.show(answer.status === "stopping" ? "stopping" : "reconnecting");
    if (answer.messageId) this.#live.add(answer.messageId);
    try {
      for await (const event of followAnswer({ connect, onCut, signal })) {
        if (event.event === "title") {
          this.onTitle();
          continue;
        }
        answer.apply(event);
        if (event.event === "start" && current) this.#started(current, JSON.parse(event.data));
      }
    } finally {
      this.#live.delete(answer.messageId);
    }
  }

  /** The service has the message, and its answer has an id. */
  #started(current, { messageId, userMessageId }) {
    const { request, answer } = current;
    const conversation = this.#conversation;
    if (!conversation.get(messageId)) {
      const { content, parentMessageId } = request.body;
      if (!conversation.get(userMessageId)) {
        const parentId = parentMessageId === undefined ? conversation.leaf : parentMessageId;
        conversation.addNewest([{ role: "user", userMessageId, parentId, content }]);
      }
      conversation.addNewest([{ role: "assistant", messageId, parentId: userMessageId, content: "", status: "streaming" }]);
      conversation.show(null);
    }
    this.#outgoing.delete(request.key);
    this.#answers.set(messageId, answer);
    this.#live.add(messageId);
    request.messageId = messageId;
    this.#storage.keepOutgoing(request);
    this.#render();
    this.#news.tell(this.#chat.id, "changed");
    this.#news.tell(this.#chat.id, "listed");
    // a stop that came before the answer had a name may have met an earlier answer to this message: say it by name
    if (current === this.#current && answer.status === "stopping") this.#stop();
  }

  /** Nothing had been sent when it was stopped. */
  #abandon({ request, answer }) {
    this.#storage.dropOutgoing(request);
    answer.show("cancelled");
  }

  #failed({ request, answer }, error) {
    const isKnown = error instanceof ProblemError;
    const isHopeless = isKnown && HOPELESS.includes(error.status);
    const hasArrived = Boolean(answer.messageId);
    answer.problem(isKnown ? words.problem(error) : hasArrived ? words.lostNote : words.network, {
      isRetryable: !isHopeless,
      waitSeconds: isKnown ? error.retryAfterSeconds : 0,
      label: hasArrived ? words.reconnect : words.retry,
    });
    answer.show(hasArrived ? "lost" : "notSent");
    if (isHopeless) this.#storage.dropOutgoing(request);
    else if (!hasArrived) this.#storage.keepOutgoing({ ...request, hasFailed: true });
    if (error.code === "chat_not_found") this.#gone();
    if (error.code === "unauthenticated") this.#askForToken();
    if (isHopeless && this.#composer.isEmpty && request.body.content) this.#composer.write(request.body.content);
  }

  async #stop() {
    const current = this.#current;
    if (!current || current.isStopping) return;
    const { request, answer, stopping } = current;
    const before = answer.status;
    this.notify("");
    answer.show("stopping");
    if (!this.#chat.id) return stopping.abort(); // nothing was sent yet
    current.isStopping = true;
    this.#update();
    const userMessageId = request.body.regenerate?.userMessageId ?? request.body.userMessageId;
    try {
      let messageId;
      let outcome;
      do {
        messageId = answer.messageId;
        const named = messageId ? { messageId } : { userMessageId };
        outcome = await this.#api.cancel(this.#chat.id, this.#session, named);
      } while (!outcome.success && !messageId && answer.messageId); // it got its name meanwhile
    } catch {
      if (answer.hasEnded) return;
      this.notify(words.stopFailed);
      answer.show(before);
    } finally {
      current.isStopping = false;
      this.#update();
    }
  }

  /** Follows an answer that another device asked for. */
  async #watch(messageId) {
    const answer = this.#answerFor(messageId);
    if (this.#live.has(messageId)) return;
    answer.sent();
    try {
      await this.#read(answer, null, this.#closing.signal);
    } catch {
      if (this.#closing.signal.aborted) return;
      answer.problem(words.lostNote, { isRetryable: true, label: words.reconnect });
      answer.show("lost");
    }
  }

  // ---- what a turn's buttons do

  #retry(answer) {
    if (this.#current) return;
    const [unsent] = [...this.#outgoing.values()].filter((entry) => entry.answer === answer);
    if (unsent) this.#ask(unsent.request, answer);
    else if (answer.status === "lost") this.#reconnect(answer);
    else this.#retryFailed(answer);
    this.focus();
  }

  #reconnect(answer) {
    const request = this.#storage.outgoing(this.#chat.id, this.#session).find((one) => one.messageId === answer.messageId);
    if (!request) return this.#watch(answer.messageId);
    answer.sent();
    return this.#run({ request, answer });
  }

  /** The first failure at the end of a chat is met by sending the message again, others by asking for another answer. */
  #retryFailed({ messageId }) {
    const { parentId: userMessageId } = this.#conversation.get(messageId);
    if (this.#conversation.versions(messageId).length > 1 || this.#conversation.leaf !== messageId) return this.#regenerate(userMessageId);
    const { content } = this.#conversation.get(userMessageId);
    return this.#ask({ key: userMessageId, body: { content, userMessageId, ...this.#choice() } });
  }

  async #rate(answer, feedback) {
    const { messageId } = answer;
    const before = this.#conversation.get(messageId).feedback ?? null;
    answer.rated(feedback);
    this.#conversation.get(messageId).feedback = feedback;
    try {
      await this.#api.rate(this.#chat.id, messageId, feedback);
    } catch {
      this.#conversation.get(messageId).feedback = before;
      answer.rated(before);
      this.notify(words.rateFailed);
    }
  }

  #step(id, by) {
    const versions = this.#conversation.versions(id);
    this.#conversation.showVersion(versions[versions.indexOf(id) + by]);
    this.#isAtBottom = false;
    this.#render();
  }

  // ---- showing

  #newAnswer() {
    const answer = new AnswerView();
    answer.actions = {
      retry: () => this.#retry(answer),
      watch: () => this.#watch(answer.messageId),
      goOn: () => this.#send(words.goOnMessage) && this.focus(),
      regenerate: () => this.#regenerate(this.#conversation.get(answer.messageId).parentId),
      step: (by) => this.#step(answer.messageId, by),
      rate: (feedback) => this.#rate(answer, feedback),
    };
    return answer;
  }

  #answerFor(messageId) {
    let answer = this.#answers.get(messageId);
    if (!answer) {
      answer = this.#newAnswer();
      answer.fill(this.#conversation.get(messageId));
      this.#answers.set(messageId, answer);
    }
    return answer;
  }

  #turnFor(userMessageId, content) {
    let turn = this.#turns.get(userMessageId);
    if (!turn) {
      turn = new TurnView(content, {
        edit: (edited) => this.#send(edited, this.#conversation.get(userMessageId).parentId),
        step: (by) => this.#step(userMessageId, by),
      });
      this.#turns.set(userMessageId, turn);
    }
    return turn;
  }

  #render() {
    const shown = this.#conversation.turns().map(({ question, answer }) => this.#storedTurn(question, answer));
    for (const { request, answer } of this.#outgoing.values()) {
      const { content, userMessageId, regenerate } = request.body;
      const turn = this.#turnFor(regenerate?.userMessageId ?? userMessageId, content);
      if (!shown.includes(turn) && !regenerate) shown.push(turn);
      if (!this.#conversation.get(userMessageId)) turn.place(0, 1, false);
      if (shown.at(-1) === turn) turn.showAnswer(answer);
    }
    const { turns } = this.#parts;
    for (const element of [...turns.children]) if (!shown.some((turn) => turn.element === element)) element.remove();
    for (const [index, { element }] of shown.entries())
      if (turns.children[index] !== element) turns.insertBefore(element, turns.children[index] ?? null);
    this.#parts.empty.hidden = this.#isLoading || shown.length > 0;
    this.#parts.earlier.hidden = !this.#cursor;
    this.#parts.log.setAttribute("aria-busy", String(this.#isLoading));
    this.#update();
  }

  #storedTurn(question, answerId) {
    const conversation = this.#conversation;
    const isBusy = this.#current !== null;
    const turn = this.#turnFor(question, conversation.get(question).content);
    const siblings = conversation.versions(question);
    turn.place(siblings.indexOf(question), siblings.length, !isBusy);
    if (!answerId) return turn;
    const answer = this.#answerFor(answerId);
    const versions = conversation.versions(answerId);
    answer.place(versions.indexOf(answerId), versions.length, isBusy);
    turn.showAnswer(answer);
    return turn;
  }

  /** Tells a screen reader one thing; an answer is read to it when it has ended, not word by word. */
  #announce(text) {
    this.#parts.announcer.textContent = text;
  }

  #update() {
    const isBusy = this.#current !== null;
    this.#composer.show({ isBusy, isStopping: Boolean(this.#current?.isStopping) });
    this.element.dataset.busy = String(isBusy);
  }

  #scroll() {
    const { log } = this.#parts;
    if (!this.#isAtBottom) return;
    log.scrollTop = log.scrollHeight;
    this.#top = log.scrollTop; // a reader may scroll up before this scroll's own event has come
  }
}
