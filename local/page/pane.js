// One device: its session, the chat as it sees it, and the place to write.

import { AnswerView } from "./answer.js";
import { newId } from "./memory.js";
import { ProblemError, followAnswer } from "./sse.js";
import { translate, words } from "./words.js";

const REPLAYS_AT_ONCE = 2; // a browser has six connections to one HTTP/1.1 server, for all tabs

export class Pane {
  #memory;
  #service;
  #session;
  #views = new Map();
  #closing = new AbortController();
  #current = null;
  #replays = [];
  #replaying = 0;
  #isAtBottom = true;

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
    this.#listen();
    memory.addEventListener("change", () => this.#learn(), { signal: this.#closing.signal });
    this.#restore();
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
      this.#isAtBottom = scrollHeight - scrollTop - clientHeight < 48;
    });
    new ResizeObserver(() => this.#scroll()).observe(this.$log);
    this.#update();
  }

  // ---- asking and stopping

  #send() {
    const content = this.$input.value;
    if (!content.trim() || this.#current) return;
    this.$input.value = "";
    this.$log.setAttribute("aria-live", "polite");
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
      if (this.#closing.signal.aborted) return;
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
    }
    return view.hasEnded;
  }

  #failed(turn, view, error) {
    const isKnown = error instanceof ProblemError;
    const wait = isKnown && error.retryAfterSeconds > 1 ? ` ${words.retryIn(error.retryAfterSeconds)}` : "";
    const isHopeless = isKnown && [400, 401, 403, 413, 415, 422].includes(error.status);
    view.problem((isKnown ? words.problem(error) : words.network) + wait, !isHopeless || error.status === 401);
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
    view.show("stopping");
    this.#notify("");
    if (!this.#memory.chatId) return stopping.abort(); // nothing was sent yet
    current.isStopping = true;
    this.#update();
    const named = view.messageId ? { messageId: view.messageId } : { userMessageId: turn.userMessageId };
    try {
      await this.#service.cancel(this.#memory.chatId, this.#session, named);
    } catch {
      if (view.hasEnded) return;
      this.#notify(words.stopFailed);
      view.show(view.messageId ? "streaming" : "waiting");
    } finally {
      current.isStopping = false;
      this.#update();
    }
  }

  // ---- what was asked before, or on another device

  /** Shows the chat as it was before the page was loaded: the service tells each answer again. */
  #restore() {
    const chatId = this.#memory.chatId;
    if (!chatId) return;
    for (const turn of this.#memory.turns(chatId)) {
      const view = this.#add(turn);
      if (turn.session === this.#session && !turn.hasEnded) this.#resume(turn, view);
      else this.#replay(turn, view);
    }
  }

  /** Goes on with an answer of this device; a message that never arrived is sent now. */
  #resume(turn, view) {
    const connect = async (chatId, lastEventId, signal) => {
      const { userMessageId } = turn;
      const named = view.messageId ? { messageId: view.messageId } : { userMessageId };
      const response = await this.#service.follow(chatId, this.#session, { lastEventId, ...named }, signal);
      if (response.status !== 204 || view.messageId) return response;
      return this.#service.send(chatId, this.#session, turn, signal);
    };
    return this.#run(turn, view, connect);
  }

  /** Queues the replay of an answer; one that is still running is watched to its end. */
  #replay(turn, view) {
    this.#replays.push([turn, view]);
    this.#replayNext();
  }

  async #replayNext() {
    this.$log.setAttribute("aria-live", this.#replays.length + this.#replaying ? "off" : "polite");
    if (this.#replaying >= REPLAYS_AT_ONCE || !this.#replays.length) return;
    const [turn, view] = this.#replays.shift();
    const chatId = this.#memory.chatId;
    const { userMessageId } = turn;
    this.#replaying += 1;
    try {
      const connect = (lastEventId, signal) => {
        const named = view.messageId ? { messageId: view.messageId } : { userMessageId };
        return this.#service.follow(chatId, this.#session, { lastEventId, ...named }, signal);
      };
      const isThere = await this.#read(view, connect, this.#closing.signal);
      if (!isThere) this.#neverSent(turn, view);
      else if (!turn.hasEnded) this.#memory.keep(chatId, { ...turn, hasEnded: true });
    } catch (error) {
      if (this.#closing.signal.aborted) return;
      if (error.code === "chat_not_found") return this.#forget(chatId);
      this.#failed(turn, view, error);
    } finally {
      this.#replaying -= 1;
    }
    this.#replayNext();
  }

  #neverSent(turn, view) {
    view.problem(words.nothing, turn.session === this.#session);
    view.show("notSent");
  }

  #forget(chatId) {
    this.#memory.forgetChat(chatId);
    this.#replays = [];
    this.#views.clear();
    for (const turn of this.$log.querySelectorAll(".turn")) turn.remove();
    this.#notify(words.gone);
    this.#update();
  }

  /** Takes notice of what other devices did in this chat. */
  #learn() {
    for (const turn of this.#memory.turns(this.#memory.chatId)) {
      if (turn.session === this.#session) continue;
      const known = this.#views.get(turn.userMessageId);
      const view = known ?? this.#add(turn);
      if (!known) {
        view.show("elsewhere");
        view.onWatch = () => {
          view.show("waiting");
          this.#replay(turn, view);
        };
      }
      if (turn.hasEnded && view.status === "elsewhere") {
        view.show("waiting");
        this.#replay(turn, view);
      }
    }
  }

  // ---- showing

  #add(turn) {
    const view = new AnswerView(turn.content, { isForeign: turn.session !== this.#session });
    view.onRetry = () => {
      if (this.#current) return;
      this.#ask({ ...turn, session: this.#session, hasEnded: false }, view);
      this.focus();
    };
    this.#views.set(turn.userMessageId, view);
    this.$log.append(view.element);
    this.#notify("");
    this.#update();
    this.#scroll();
    return view;
  }

  #notify(text) {
    this.$notice.textContent = text;
  }

  #update() {
    const isBusy = this.#current !== null;
    this.$empty.hidden = this.#views.size > 0;
    this.$send.hidden = isBusy;
    this.$send.disabled = !this.$input.value.trim();
    this.$stop.hidden = !isBusy;
    this.$stop.disabled = Boolean(this.#current?.isStopping);
    if (!CSS.supports("field-sizing", "content")) this.$input.rows = Math.min(this.$input.value.split("\n").length, 6);
    this.element.dataset.busy = String(isBusy);
  }

  #scroll() {
    if (this.#isAtBottom) this.$log.scrollTop = this.$log.scrollHeight;
  }
}
