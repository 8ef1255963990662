// The chat that is open: one for all devices of this tab. It is created with its first message.

export class Chat {
  #api;
  #storage;
  #creating = null;
  #onCreated;

  constructor({ id, api, storage, onCreated }) {
    /** Empty before it is created. */
    this.id = id;
    this.#api = api;
    this.#storage = storage;
    this.#onCreated = onCreated;
  }

  /** Returns its id and creates it first where need be, once however many devices ask. */
  ensure() {
    if (this.id) return Promise.resolve(this.id);
    this.#creating ??= this.#create().finally(() => (this.#creating = null));
    return this.#creating;
  }

  async #create() {
    this.id = await this.#api.create(this.#storage.creationKey);
    this.#storage.forgetCreationKey();
    this.#onCreated(this.id);
    return this.id;
  }
}

/** What happens to chats, told to everything in this browser that shows them. */
export class News {
  #channel = new BroadcastChannel("chats");
  #signal;

  constructor(signal = undefined) {
    this.#signal = signal;
    signal?.addEventListener("abort", () => this.#channel.close());
  }

  /** `{ chatId, what }`: `changed`, `listed` (its title or place in the list), `removed`. */
  tell(chatId, what) {
    if (!this.#signal?.aborted) this.#channel.postMessage({ chatId, what });
  }

  set onNews(hear) {
    this.#channel.onmessage = (event) => hear(event.data);
  }
}
