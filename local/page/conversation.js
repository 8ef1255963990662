// The messages of one chat as the tree they form. Pure: it knows neither the page nor the service.

/** In the place of a leaf: nothing is shown, the next message begins the chat anew. */
export const BEGINNING = "beginning";

/** A message of the service's, or one that is known before the service lists it: `{ role, parentId, ... }`. */
export class Conversation {
  #messages = new Map();
  #order = [];
  #leaf = null;

  /** Takes in a page of messages, oldest first, that lies before all that is known. */
  addEarlier(messages) {
    const added = messages.filter((message) => !this.#messages.has(idOf(message)));
    this.#order.unshift(...added.map(idOf));
    for (const message of messages) this.#messages.set(idOf(message), message);
  }

  /** Takes in the newest page as the service tells it now, or one message that has just begun. */
  addNewest(messages) {
    for (const message of messages) {
      const id = idOf(message);
      if (!this.#messages.has(id)) this.#order.push(id);
      this.#messages.set(id, message);
    }
  }

  get isEmpty() {
    return !this.#order.length;
  }

  get(id) {
    return this.#messages.get(id);
  }

  /** The answer at the end of what is shown; null at the beginning. */
  get leaf() {
    return this.#leaf === BEGINNING ? null : (this.#leaf ?? this.#order.at(-1) ?? null);
  }

  /** Whether the newest branch is shown: a message without a parent goes on there. */
  get isAtNewest() {
    return this.#leaf === null;
  }

  /** Shows the path down to this message; null: the newest branch. */
  show(leaf) {
    this.#leaf = leaf;
  }

  /** Shows the newest branch that passes through this message. */
  showVersion(id) {
    const newest = this.#order.findLast((candidate) => this.#isAtOrBelow(candidate, id));
    this.show(newest === this.#order.at(-1) ? null : newest);
  }

  /** All messages beside this one: other answers to a message, or other messages in its place. */
  versions(id) {
    const { parentId, role } = this.#messages.get(id);
    return this.#order.filter((other) => {
      const message = this.#messages.get(other);
      return message.parentId === parentId && message.role === role;
    });
  }

  /** The turns that are shown, in order: `{ question, answer }`, ids; an answer that is not there yet is null. */
  turns() {
    const turns = [];
    for (let id = this.leaf; id; ) {
      const message = this.#messages.get(id);
      if (!message) break;
      const isAnswer = message.role !== "user";
      const question = isAnswer ? message.parentId : id;
      if (!this.#messages.has(question)) break;
      turns.unshift({ question, answer: isAnswer ? id : null });
      id = this.#messages.get(question).parentId;
    }
    return turns;
  }

  #isAtOrBelow(id, ancestor) {
    for (let at = id; at; at = this.#messages.get(at)?.parentId) if (at === ancestor) return true;
    return false;
  }
}

export function idOf(message) {
  return message.role === "user" ? message.userMessageId : message.messageId;
}
