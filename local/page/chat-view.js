// One device: its session, the chat as it sees it, and the place to write.

import { Composer, isComposing } from "./composer.js";
import { clone } from "./elements.js";
import { History } from "./history.js";
import { words } from "./i18n.js";
import { ProblemError, followAnswer } from "./sse.js";
import { newId } from "./storage.js";
import { TurnView } from "./turn-view.js";

export class ChatView {
  #storage;
  #api;
  #session;
  #history;
  #composer;
  #parts;
  #closing = new AbortController();
  #current = null;
  #isAtBottom = true;
  #top = 0;

  constructor({ storage, api, session, name, number, mostCharacters }) {
    this.#storage = storage;
    this.#api = api;
    this.#session = session;
    [this.element, this.#parts] = clone("pane");
    this.element.setAttribute("aria-label", name);
    this.#parts.name.textContent = name;
    this.#parts.session.textContent = session.slice(-4);
    this.#parts.session.title = session;
    this.#composer = new Composer(this.#parts, {
      draft: storage.draft(number),
      keep: (text) => storage.keepDraft(number, text),
      mostCharacters,
      send: (content) => this.#send(content),
      stop: () => this.#stop(),
    });
    const show = {
      add: (turn) => this.#add(turn),
      read: (view, connect) => this.#read(view, connect, this.#closing.signal),
      failed: (turn, view, error) => this.#failed(turn, view, error),
      gone: () => this.#notify(words.gone),
    };
    this.#history = new History({ storage, api, session, show });
    this.#listen();
    const unfinished = this.#history.restore();
    if (unfinished) this.#resume(...unfinished);
    this.#update();
    storage.addEventListener("change", () => this.#history.learn(), { signal: this.#closing.signal });
  }

  focus() {
    this.#composer.focus();
  }

  /** Leaves; an answer that is running is finished by the service all the same. */
  close() {
    this.#closing.abort();
    this.element.remove();
  }

  #listen() {
    const { log, turns, empty } = this.#parts;
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
    this.#closing.signal.addEventListener("abort", () => sizes.disconnect());
  }

  // ---- asking and stopping

  /** Takes a message, unless an answer is running. */
  #send(content) {
    if (!content.trim() || this.#current) return false;
    const turn = { userMessageId: newId(), content, session: this.#session, hasEnded: false };
    this.#ask(turn, this.#add(turn).answer);
    return true;
  }

  /** Sends a turn, or sends it again: the service knows it by its id. */
  #ask(turn, view) {
    view.sent();
    this.#isAtBottom = true;
    const connect = async (chatId, lastEventId, signal) =>
      lastEventId || view.messageId
        ? this.#api.follow(chatId, this.#session, { lastEventId, messageId: view.messageId }, signal)
        : this.#api.send(chatId, this.#session, turn, signal);
    view.messageId = "";
    return this.#run(turn, view, connect);
  }

  /** Reads an answer that occupies this device until it ends. */
  async #run(turn, view, connect) {
    const current = { turn, view, stopping: new AbortController(), isStopping: false };
    this.#current = current;
    this.#update();
    const signal = AbortSignal.any([this.#closing.signal, current.stopping.signal]);
    try {
      const chatId = await this.#api.chat();
      if (signal.aborted) throw signal.reason;
      this.#storage.keep(chatId, turn);
      await this.#read(view, (lastEventId, abort) => connect(chatId, lastEventId, abort), signal);
    } catch (error) {
      if (current.stopping.signal.aborted) view.show("cancelled");
      else this.#failed(turn, view, error);
    }
    if (this.#closing.signal.aborted) return;
    if (this.#storage.chatId) this.#storage.keep(this.#storage.chatId, { ...turn, hasEnded: true });
    this.#current = null;
    this.#announce(view.aloud);
    this.#update();
  }

  /** Shows an answer's events up to its end; returns false when there was none to follow. */
  async #read(view, connect, signal) {
    const onCut = () => view.show(view.status === "stopping" ? "stopping" : "reconnecting");
    for await (const event of followAnswer({ connect, onCut, signal })) {
      view.apply(event);
      // a stop that came before the answer had a name may have met an earlier answer to this message: say it by name
      if (event.event === "start" && view === this.#current?.view && view.status === "stopping") this.#stop();
    }
    return view.hasEnded;
  }

  #failed(turn, view, error) {
    if (this.#closing.signal.aborted) return;
    const isKnown = error instanceof ProblemError;
    const isHopeless = isKnown && [400, 413, 415, 422].includes(error.status);
    const hasArrived = Boolean(view.messageId);
    view.problem(isKnown ? words.problem(error) : hasArrived ? words.lostNote : words.network, {
      isRetryable: !isHopeless,
      waitSeconds: isKnown ? error.retryAfterSeconds : 0,
      label: hasArrived ? words.reconnect : words.retry,
    });
    view.show(hasArrived ? "lost" : "notSent");
    if (error.code === "chat_not_found") this.#storage.forgetChat(this.#storage.chatId);
    if (error.code === "unauthenticated") this.element.dispatchEvent(new Event("unauthenticated", { bubbles: true }));
    if (isHopeless && this.#composer.isEmpty) this.#composer.write(turn.content);
  }

  async #stop() {
    const current = this.#current;
    if (!current || current.isStopping) return;
    const { turn, view, stopping } = current;
    const before = view.status;
    this.#notify("");
    view.show("stopping");
    if (!this.#storage.chatId) return stopping.abort(); // nothing was sent yet
    current.isStopping = true;
    this.#update();
    try {
      let messageId;
      let outcome;
      do {
        messageId = view.messageId;
        const named = messageId ? { messageId } : { userMessageId: turn.userMessageId };
        outcome = await this.#api.cancel(this.#storage.chatId, this.#session, named);
      } while (!outcome.success && !messageId && view.messageId); // it got its name meanwhile
    } catch {
      if (view.hasEnded) return;
      this.#notify(words.stopFailed);
      view.show(before);
    } finally {
      current.isStopping = false;
      this.#update();
    }
  }

  /** Goes on with the answer that this device was in the middle of; a message that never arrived is sent now. */
  #resume(turn, { answer: view }) {
    const connect = async (chatId, lastEventId, signal) => {
      const named = view.messageId ? { messageId: view.messageId } : { userMessageId: turn.userMessageId };
      const response = await this.#api.follow(chatId, this.#session, { lastEventId, ...named }, signal);
      if (response.status !== 204 || view.messageId) return response;
      return this.#api.send(chatId, this.#session, turn, signal);
    };
    return this.#run(turn, view, connect);
  }

  /** Reads on after the connection was lost: the service has gone on with the answer. */
  #reconnect(turn, view) {
    view.sent();
    const connect = (chatId, lastEventId, signal) =>
      this.#api.follow(chatId, this.#session, { lastEventId, messageId: view.messageId }, signal);
    return this.#run(turn, view, connect);
  }

  // ---- showing

  #add(turn) {
    const view = new TurnView(turn.content, { isForeign: !this.#history.isMine(turn) });
    const { answer } = view;
    answer.onRetry = () => {
      if (this.#current) return;
      if (answer.status === "lost") this.#reconnect(turn, answer);
      else this.#ask({ ...turn, session: this.#session, hasEnded: false }, answer);
      this.focus();
    };
    answer.onGoOn = () => {
      this.#send(words.goOnMessage);
      this.focus();
    };
    this.#history.shown(turn, view);
    this.#parts.turns.append(view.element);
    this.#notify("");
    return view;
  }

  #notify(text) {
    this.#parts.notice.textContent = text;
    this.#update();
  }

  /** Tells a screen reader one thing; an answer is read to it when it has ended, not word by word. */
  #announce(text) {
    this.#parts.announcer.textContent = text;
  }

  #update() {
    const isBusy = this.#current !== null;
    this.#parts.empty.hidden = !this.#history.isEmpty;
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
