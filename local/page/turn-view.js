// One turn: what was asked, and the version of its answer that is shown.

import { copy } from "./answer-view.js";
import { isComposing } from "./composer.js";
import { clone } from "./elements.js";
import { words } from "./i18n.js";

const LONG_CHARACTERS = 1_200;
const LONG_LINES = 14;

export class TurnView {
  /** The answer that is shown. */
  answer = null;
  #parts;
  #content;

  /** `actions`: `edit(content)` returns whether it was taken, `step(by)`. */
  constructor(content, { edit, step }) {
    [this.element, this.#parts] = clone("turn");
    this.#content = content;
    this.#parts.question.textContent = content;
    this.#parts.copy.onclick = () => copy(content, this.#parts.copy);
    this.#parts.previous.onclick = () => step(-1);
    this.#parts.next.onclick = () => step(1);
    this.#fold();
    this.#parts.edit.onclick = () => this.#edit(edit);
  }

  /** Puts another version of the answer in place. */
  showAnswer(answer) {
    if (this.answer === answer) return;
    if (this.answer) this.answer.onChange = () => {};
    this.answer = answer;
    this.#parts.answer.replaceChildren(answer.element);
    answer.onChange = () => this.#changed();
    this.#changed();
  }

  /** Says which of several versions of the message this is; `mayEdit`: nothing is on its way. */
  place(index, count, mayEdit) {
    this.#parts.versions.hidden = count < 2;
    this.#parts.version.textContent = words.version(index + 1, count);
    this.#parts.previous.disabled = index === 0;
    this.#parts.next.disabled = index === count - 1;
    this.#parts.edit.disabled = !mayEdit;
  }

  #changed() {
    this.element.dataset.status = this.answer.status;
    this.element.setAttribute("aria-busy", String(!this.answer.hasEnded));
  }

  /** Opens the message for editing; Enter sends it, Escape leaves it as it is. */
  #edit(edit) {
    const [editor, { edited, cancelEdit }] = clone("editor");
    const close = () => {
      editor.replaceWith(this.#parts.bubble);
      this.#parts.tools.hidden = false;
      this.#parts.edit.focus();
    };
    edited.value = this.#content;
    cancelEdit.onclick = close;
    editor.addEventListener("submit", (event) => {
      event.preventDefault();
      if (edited.value.trim() && edit(edited.value)) close();
    });
    edited.addEventListener("keydown", (event) => {
      if (isComposing(event)) return;
      if (event.key === "Escape") close();
      else if (event.key === "Enter" && !event.shiftKey) editor.requestSubmit();
      else return;
      event.preventDefault();
      event.stopPropagation();
    });
    this.#parts.tools.hidden = true;
    this.#parts.bubble.replaceWith(editor);
    edited.focus();
  }

  /** What is long is folded, so that the answer is found. */
  #fold() {
    const { fold, question } = this.#parts;
    const isLong =
      this.#content.length > LONG_CHARACTERS || this.#content.split("\n", LONG_LINES + 1).length > LONG_LINES;
    if (!isLong) return;
    const show = (isFolded) => {
      question.classList.toggle("folded", isFolded);
      fold.textContent = isFolded ? words.showAll : words.showLess;
      fold.setAttribute("aria-expanded", String(!isFolded));
    };
    fold.hidden = false;
    fold.onclick = () => show(!question.classList.contains("folded"));
    show(true);
  }
}
