// Where one writes: a field that grows, its limit, send and stop. Knows nothing of chats.

import { words } from "./i18n.js";

const COUNTED_FROM = 0.8;

export class Composer {
  #parts;
  #mostCharacters;
  #keep;
  #isBusy = false;

  /** `parts` are the pane's; `keep(text)` stores the draft; `send(text)` returns whether it took it; `stop()`. */
  constructor(parts, { draft, keep, mostCharacters, send, stop }) {
    this.#parts = parts;
    this.#mostCharacters = mostCharacters;
    this.#keep = keep;
    parts.input.value = draft;
    const submit = () => this.#canSend && send(parts.input.value) && this.write("");
    parts.form.addEventListener("submit", (event) => {
      event.preventDefault();
      submit();
    });
    parts.stop.addEventListener("click", () => {
      stop();
      this.focus();
    });
    parts.input.addEventListener("input", () => this.#update());
    parts.input.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || isComposing(event)) return;
      event.preventDefault();
      submit();
    });
    this.#update();
  }

  get isEmpty() {
    return !this.#parts.input.value;
  }

  focus() {
    this.#parts.input.focus();
  }

  write(text) {
    this.#parts.input.value = text;
    this.#update();
  }

  /** Shows whether an answer is running, and whether it is being stopped. */
  show({ isBusy, isStopping }) {
    this.#isBusy = isBusy;
    this.#parts.stop.disabled = isStopping;
    this.#update();
  }

  get #length() {
    const { value } = this.#parts.input;
    // the service counts code points, which are at most as many as the units that are quick to count
    return value.length <= this.#mostCharacters * COUNTED_FROM ? value.length : Array.from(value).length;
  }

  get #canSend() {
    return Boolean(this.#parts.input.value.trim()) && this.#length <= this.#mostCharacters;
  }

  #update() {
    const { input, send, stop, counter } = this.#parts;
    const over = this.#length - this.#mostCharacters;
    // who writes on while an answer is running may send: that stops it
    send.hidden = this.#isBusy && !input.value.trim();
    stop.hidden = !this.#isBusy;
    send.disabled = !this.#canSend;
    counter.hidden = this.#length <= this.#mostCharacters * COUNTED_FROM;
    counter.textContent = counter.hidden ? "" : words.counter(this.#length, this.#mostCharacters);
    counter.title = over > 0 ? words.tooLong(over) : "";
    input.setAttribute("aria-invalid", String(over > 0));
    if (!CSS.supports("field-sizing", "content")) input.rows = Math.min(input.value.split("\n").length, 6);
    this.#keep(input.value);
  }
}

/** Whether a key belongs to the input method, like the Enter that ends a Hangul syllable (Safari says so by 229). */
export function isComposing(event) {
  return event.isComposing || event.keyCode === 229;
}
