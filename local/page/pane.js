// One device: its session, the chat as it sees it, and the place to write.

import { AnswerView } from "./answer.js";
import { History } from "./history.js";
import { newId } from "./memory.js";
import { ProblemError, followAnswer } from "./sse.js";
import { translate, words } from "./words.js";

export class Pane {
  #memory;
  #service;
  #session;
  #history;
  #closing = new AbortController();
  #current = null;
  #isAtBottom = true;
  #top = 0;
  #frame = 0;

  constructor({ memory, service, session, name }) {
    this.#memory = memory;
    this.#service = service;
    this.#session = session;
    this.element = document.getElementById("pane").content.firstElementChild.cloneNode(true);
    translate(this.element);
    this.element.setAttribute("aria-label", name);
    for (const key of ["log", "empty", "notice", "form", "input", "send", "stop", "name", "session"])
      this[`$${key}`] = this.element.querySelector(`[data-part=${key}]`);
    this.$name.textContent = name;
    this.$session.textContent = session.slice(-4);
    this.$session.title = session;
    const show = {
      add: (turn) => this.#add(turn),
      read: (view, connect) => this.#read(view, connect, this.#closing.signal),
      failed: (turn, view, error) => this.#failed(turn, view, error),
      gone: () => this.#notify(words.gone),
    };
    this.#history = new History({ memory, service, session, show });
    this.#listen();
    const unfinished = this.#history.restore();
    if (unfinished) this.#resume(...unfinished);
    memory.addEventListener("change", () => this.#history.learn(), { signal: this.#closing.signal });
  }

  focus() {
    this.$input.focus();
  }

  /** Leaves; an answer that is running is finished by the service all the same. */
  close() {
    this.#closing.abort();
    this.element.remove();
  }

  #listen() {
    this.$form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#send();
    });
    this.$stop.addEventListener("click", () => {
      this.#stop();
      this.focus();
    });
    this.$input.addEventListener("input", () => this.#update());
    this.$input.addEventListener("keydown", (event) => {
      // the Enter that ends the composition of a Hangul syllable belongs to the input method (Safari says so by 229)
      const isComposing = event.isComposing || event.keyCode === 229;
      if (event.key !== "Enter" || event.shiftKey || isComposing) return;
      event.preventDefault();
      this.#send();
    });
    this.element.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && !event.isComposing && event.keyCode !== 229) this.#stop();
    });
    this.$empty.addEventListener("click", (event) => {
      const example = event.target.closest("button");
      if (!example) return;
      this.$input.value = example.textContent;
      this.#send();
      this.focus();
    });
    this.$log.addEventListener("scroll", () => {
      const { scrollHeight, scrollTop, clientHeight } = this.$log;
      const isNear = scrollHeight - scrollTop - clientHeight < 48;
      // only who scrolls up leaves the bottom: what has grown since the last scroll does not count
      this.#isAtBottom = isNear || (this.#isAtBottom && scrollTop >= this.#top);
      this.#top = scrollTop;
    });
    new ResizeObserver(() => this.#scroll()).observe(this.$log);
    this.#update();
  }

  // ---- asking and stopping

  #send() {
    const content = this.$input.value;
    if (!content.trim() || this.#current) return;
    this.$input.value = "";
    const turn = { userMessageId: newId(), content, session: this.#session, hasEnded: false };
    this.#ask(turn, this.#add(turn));
  }

  /** Sends a turn, or sends it again: the service knows it by its id. */
  #ask(turn, view) {
    view.sent();
    this.#isAtBottom = true;
    const connect = async (chatId, lastEventId, signal) =>
      lastEventId || view.messageId
        ? this.#service.follow(chatId, this.#session, { lastEventId, messageId: view.messageId }, signal)
        : this.#service.send(chatId, this.#session, turn, signal);
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
      const chatId = await this.#service.chat();
      if (signal.aborted) throw signal.reason;
      this.#memory.keep(chatId, turn);
      await this.#read(view, (lastEventId, abort) => connect(chatId, lastEventId, abort), signal);
    } catch (error) {
      if (current.stopping.signal.aborted) view.show("cancelled");
      else this.#failed(turn, view, error);
    }
    if (this.#closing.signal.aborted) return;
    if (this.#memory.chatId) this.#memory.keep(this.#memory.chatId, { ...turn, hasEnded: true });
    this.#current = null;
    this.#update();
  }

  /** Shows an answer's events up to its end; returns false when there was none to follow. */
  async #read(view, connect, signal) {
    const onCut = () => view.show(view.status === "stopping" ? "stopping" : "reconnecting");
    for await (const event of followAnswer({ connect, onCut, signal })) {
      view.apply(event);
      this.#scroll();
      // a stop that came before the answer had a name may have met an earlier answer to this message: say it by name
      if (event.event === "start" && view === this.#current?.view && view.status === "stopping") this.#stop();
    }
    return view.hasEnded;
  }

  #failed(turn, view, error) {
    if (this.#closing.signal.aborted) return;
    const isKnown = error instanceof ProblemError;
    const wait = isKnown && error.retryAfterSeconds > 1 ? ` ${words.retryIn(error.retryAfterSeconds)}` : "";
    const isHopeless = isKnown && [400, 413, 415, 422].includes(error.status);
    view.problem((isKnown ? words.problem(error) : words.network) + wait, !isHopeless);
    view.show(view.messageId ? "lost" : "notSent");
    if (error.code === "chat_not_found") this.#memory.forgetChat(this.#memory.chatId);
    if (error.code === "unauthenticated") this.element.dispatchEvent(new Event("unauthenticated", { bubbles: true }));
    if (isHopeless && !this.$input.value) this.$input.value = turn.content;
    this.#scroll();
  }

  async #stop() {
    const current = this.#current;
    if (!current || current.isStopping) return;
    const { turn, view, stopping } = current;
    const before = view.status;
    this.#notify("");
    view.show("stopping");
    if (!this.#memory.chatId) return stopping.abort(); // nothing was sent yet
    current.isStopping = true;
    this.#update();
    try {
      let messageId;
      let outcome;
      do {
        messageId = view.messageId;
        const named = messageId ? { messageId } : { userMessageId: turn.userMessageId };
        outcome = await this.#service.cancel(this.#memory.chatId, this.#session, named);
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
  #resume(turn, view) {
    const connect = async (chatId, lastEventId, signal) => {
      const named = view.messageId ? { messageId: view.messageId } : { userMessageId: turn.userMessageId };
      const response = await this.#service.follow(chatId, this.#session, { lastEventId, ...named }, signal);
      if (response.status !== 204 || view.messageId) return response;
      return this.#service.send(chatId, this.#session, turn, signal);
    };
    return this.#run(turn, view, connect);
  }

  // ---- showing

  #add(turn) {
    const view = new AnswerView(turn.content, { isForeign: !this.#history.isMine(turn) });
    view.onRetry = () => {
      if (this.#current) return;
      this.#ask({ ...turn, session: this.#session, hasEnded: false }, view);
      this.focus();
    };
    this.#history.shown(turn, view);
    this.$log.append(view.element);
    this.#notify("");
    this.#scroll();
    return view;
  }

  #notify(text) {
    this.$notice.textContent = text;
    this.#update();
  }

  #update() {
    const isBusy = this.#current !== null;
    this.$empty.hidden = !this.#history.isEmpty;
    this.$send.hidden = isBusy;
    this.$send.disabled = !this.$input.value.trim();
    this.$stop.hidden = !isBusy;
    this.$stop.disabled = Boolean(this.#current?.isStopping);
    if (!CSS.supports("field-sizing", "content")) this.$input.rows = Math.min(this.$input.value.split("\n").length, 6);
    this.element.dataset.busy = String(isBusy);
    // a screen reader hears what is new, not the whole chat again after a reload
    this.$log.setAttribute("aria-live", this.#history.isBusy && !isBusy ? "off" : "polite");
  }

  #scroll() {
    // once a frame: an answer that is told again comes in hundreds of events at once
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      if (!this.#isAtBottom) return;
      this.$log.scrollTop = this.$log.scrollHeight;
      this.#top = this.$log.scrollTop; // a reader may scroll up before this scroll's own event has come
    });
  }
}
