// What was asked before the page was loaded, or on another device: the service tells those answers again.

const AT_ONCE = 2; // a browser has six connections to one HTTP/1.1 server, for all tabs together

/** `show` has what a chat view does for it: `add(turn)`, `read(view, connect)`, `failed(turn, view, error)`, `gone()`. */
export class History {
  #storage;
  #api;
  #session;
  #show;
  #views = new Map();
  #waiting = [];
  #running = 0;

  constructor({ storage, api, session, show }) {
    this.#storage = storage;
    this.#api = api;
    this.#session = session;
    this.#show = show;
  }

  /** Whether answers are being told again. */
  get isBusy() {
    return this.#waiting.length + this.#running > 0;
  }

  get isEmpty() {
    return this.#views.size === 0;
  }

  isMine(turn) {
    return turn.session === this.#session;
  }

  /** Takes note of a turn that is shown. */
  shown(turn, view) {
    this.#views.set(turn.userMessageId, view);
  }

  /** Shows the chat as it is known; returns what this device was in the middle of. */
  restore() {
    const chatId = this.#storage.chatId;
    let unfinished = null;
    for (const turn of chatId ? this.#storage.turns(chatId) : []) {
      const view = this.#show.add(turn);
      if (this.isMine(turn) && !turn.hasEnded && !unfinished) unfinished = [turn, view];
      else this.#replay(turn, view);
    }
    return unfinished;
  }

  /** Takes notice of what other devices did in this chat. */
  learn() {
    for (const turn of this.#storage.turns(this.#storage.chatId)) {
      if (this.isMine(turn)) continue;
      const view = this.#views.get(turn.userMessageId) ?? this.#addForeign(turn);
      if (turn.hasEnded && view.answer.status === "elsewhere") this.#replay(turn, view);
    }
  }

  #addForeign(turn) {
    const view = this.#show.add(turn);
    view.answer.show("elsewhere");
    view.answer.onWatch = () => this.#replay(turn, view);
    return view;
  }

  /** Follows the answer from its start: it is told again as a whole, or watched to its end while it is running. */
  #replay(turn, view) {
    view.answer.show("waiting");
    this.#waiting.push([turn, view]);
    this.#next();
  }

  async #next() {
    if (this.#running >= AT_ONCE || !this.#waiting.length) return;
    const [turn, view] = this.#waiting.shift();
    const chatId = this.#storage.chatId;
    this.#running += 1;
    try {
      await this.#tell(chatId, turn, view.answer);
    } catch (error) {
      if (error.code === "chat_not_found") this.#forget(chatId);
      else this.#show.failed(turn, view.answer, error);
    } finally {
      this.#running -= 1;
    }
    this.#next();
  }

  async #tell(chatId, turn, view) {
    const connect = (lastEventId, signal) => {
      const named = view.messageId ? { messageId: view.messageId } : { userMessageId: turn.userMessageId };
      return this.#api.follow(chatId, this.#session, { lastEventId, ...named }, signal);
    };
    const isThere = await this.#show.read(view, connect);
    if (!isThere) view.neverSent(this.isMine(turn));
    else if (!turn.hasEnded) this.#storage.keep(chatId, { ...turn, hasEnded: true });
  }

  #forget(chatId) {
    this.#storage.forgetChat(chatId);
    this.#waiting = [];
    for (const view of this.#views.values()) view.element.remove();
    this.#views.clear();
    this.#show.gone();
  }
}
