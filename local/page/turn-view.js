// One turn: what was asked, and its answer.

import { AnswerView } from "./answer-view.js";
import { clone } from "./elements.js";
import { words } from "./i18n.js";

const LONG_CHARACTERS = 1_200;
const LONG_LINES = 14;

export class TurnView {
  #parts;

  constructor(content, { isForeign = false } = {}) {
    [this.element, this.#parts] = clone("turn");
    this.#parts.question.textContent = content;
    this.#parts.origin.hidden = !isForeign;
    this.#fold(content);
    this.answer = new AnswerView();
    this.answer.onChange = () => this.#changed();
    this.#parts.answer.append(this.answer.element);
    this.#changed();
  }

  #changed() {
    this.element.dataset.status = this.answer.status;
    this.element.setAttribute("aria-busy", String(!this.answer.hasEnded));
  }

  /** What is long is folded, so that the answer is found. */
  #fold(content) {
    const { fold, question } = this.#parts;
    const isLong = content.length > LONG_CHARACTERS || content.split("\n", LONG_LINES + 1).length > LONG_LINES;
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
