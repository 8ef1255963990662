// Inline Markdown as DOM nodes: emphasis, code, links. Text enters as text nodes only, never as HTML.

const MAX_TAIL = 1_000;
const MAX_PIECE = 1_000;
const MAX_OPEN = 40;
const MAX_RUN = 6;
const ENTITIES = { amp: "&", lt: "<", gt: ">", quot: '"', apos: "'", nbsp: "\u00a0", hellip: "…", mdash: "—", ndash: "–", times: "×", copy: "©" };
const SPACE = /^\s?$/u;
const PUNCTUATION = /^[\p{P}\p{S}]$/u;
const CJK = /^[\p{Script=Hangul}\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}]$/u;
const PLAIN = /[^\\`*_~[\]<&!\n\sh]+/y;
const BARE_URL = /https?:\/\/[^\s<>"`|\\^{}]+/iy;
const ANGLE_URL = /<((?:https?:\/\/|mailto:)[^\s<>]+)>/iy;
const ENTITY = /&(?:#(\d{1,7})|#x([\da-f]{1,6})|([a-z]{2,8}));/iy;
const BREAK = /<br ?\/?>/iy;
const BREAK_COMING = /<b(?:r ?\/?)?$/iy;
const DESTINATION = /\(\s*(?:<([^<>\n]*)>|((?:[^\s()\\]|\\.|\([^\s()]*\))*))(?:\s+(?:"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'))?\s*\)/y;
const COMING = /^(?:\(\s*(?:<[^<>\n]*>?|[^\s()<]*(?:\([^\s()]*\)?[^\s()]*)?)(?:\s+(?:["'][^\n]*)?)?)?$/;

/**
 * The text of one paragraph, heading or cell, which comes piece by piece.
 *
 * What no later text can change is put into the element for good; only the rest, a word or an unfinished emphasis, is
 * made anew with each piece, and that is never longer than MAX_TAIL characters.
 */
export class InlineText {
  #element;
  #tail = "";
  #before = "\n";
  #tailNodes = [];

  constructor(element) {
    this.#element = element;
  }

  append(text) {
    for (let at = 0; at < text.length; at += MAX_PIECE) this.#take(text.slice(at, at + MAX_PIECE));
  }

  /** No more text comes: what is open stays as it was written. */
  end() {
    this.#clearTail();
    this.#tail = this.#tail.trimEnd();
    this.#settle(this.#tail.length);
  }

  #take(text) {
    this.#tail += text;
    this.#clearTail();
    const { settled } = new Inline(this.#tail, this.#before, true);
    this.#settle(this.#tail.length > MAX_TAIL && settled === 0 ? this.#tail.length - 1 : settled);
    this.#tailNodes = new Inline(this.#tail, this.#before, true).nodes;
    this.#element.append(...this.#tailNodes);
  }

  #clearTail() {
    for (const node of this.#tailNodes) node.remove();
    this.#tailNodes = [];
  }

  #settle(length) {
    if (!length) return;
    if (isLowSurrogate(this.#tail.charCodeAt(length))) length -= 1;
    const text = this.#tail.slice(0, length);
    const { nodes } = new Inline(text, this.#before, false);
    const last = this.#element.lastChild;
    if (last?.nodeType === 3 && nodes[0]?.nodeType === 3) last.appendData(nodes.shift().data);
    this.#element.append(...nodes);
    this.#before = Array.from(text.slice(-2)).at(-1) ?? this.#before;
    this.#tail = this.#tail.slice(length);
  }
}

const isLowSurrogate = (code) => code >= 0xdc00 && code <= 0xdfff;

/**
 * One pass over a text. `nodes` are what it shows as; `settled` is how much of it no later text can change.
 *
 * Frames are what has been opened and not closed: emphasis by its delimiter, a link's text by its bracket.
 * Source: CommonMark 0.31.2, section 6, and GFM for `~~` and bare addresses. CJK letters count as the edge of a word for
 * `*`, because Korean joins its particles to what is emphasised: `**"인용"**은`.
 */
class Inline {
  settled = 0;
  #text;
  #before;
  #isOpen;
  #frames = [{ children: [] }];
  #at = 0;

  constructor(text, before, isOpen) {
    this.#text = text;
    this.#before = before;
    this.#isOpen = isOpen;
    while (this.#at < text.length) this.#step();
    while (this.#frames.length > 1) this.#giveUp(isOpen);
    this.nodes = this.#frames[0].children;
  }

  #step() {
    const text = this.#text;
    const plain = this.#match(PLAIN);
    if (plain) return this.#say(plain[0]);
    const char = text[this.#at];
    if (char === "\\") return this.#escape();
    if (char === "`") return this.#code();
    if (char === "*" || char === "_" || char === "~") return this.#delimiter(char);
    if (char === "[" || (char === "!" && text[this.#at + 1] === "[")) return this.#bracket(char);
    if (char === "]") return this.#close();
    if (char === "<") return this.#angle();
    if (char === "&") return this.#entity();
    if (char === "h") return this.#address();
    if (/\s/.test(char)) return this.#space();
    return this.#literal(1);
  }

  // ---- text

  #say(text) {
    this.#at += text.length;
    this.#put(text);
  }

  #literal(length) {
    this.#say(this.#text.slice(this.#at, this.#at + length));
  }

  #put(text) {
    const { children } = this.#frames.at(-1);
    const last = children.at(-1);
    if (last?.nodeType === 3) last.appendData(text);
    else if (text) children.push(document.createTextNode(text));
  }

  #match(pattern) {
    pattern.lastIndex = this.#at;
    return pattern.exec(this.#text);
  }

  #space() {
    const spaces = /\s+/y;
    const [found] = this.#match(spaces);
    const isLast = this.#at + found.length === this.#text.length;
    this.#at += found.length;
    // a line that ends stays a line; spaces before its end, and what indents the next, are nothing
    this.#put(found.includes("\n") ? "\n" : isLast && this.#isOpen ? "" : found);
    if (!isLast && this.#frames.length === 1) this.settled = this.#at;
  }

  #escape() {
    const next = this.#text[this.#at + 1];
    if (next === undefined && this.#isOpen) return void (this.#at += 1);
    if (next === "\n" || (next && next.codePointAt(0) < 128 && PUNCTUATION.test(next))) {
      this.#at += 1;
      return next === "\n" ? undefined : this.#literal(1);
    }
    return this.#literal(1);
  }

  #entity() {
    const found = this.#match(ENTITY);
    const [whole, decimal, hex, name] = found ?? [];
    const code = decimal ? Number(decimal) : parseInt(hex, 16);
    const isCharacter = code > 0 && code <= 0x10ffff && !(code >= 0xd800 && code <= 0xdfff);
    const character = name ? ENTITIES[name] : isCharacter ? String.fromCodePoint(code) : undefined;
    if (!whole || character === undefined) return this.#literal(1);
    this.#at += whole.length;
    return this.#put(character);
  }

  #code() {
    const [ticks] = this.#match(/`+/y);
    const from = this.#at + ticks.length;
    const runs = /`+/g;
    runs.lastIndex = from;
    let end = runs.exec(this.#text);
    while (end && end[0].length !== ticks.length) end = runs.exec(this.#text);
    if (!end && !this.#isOpen) return this.#literal(ticks.length);
    const inside = this.#text.slice(from, end?.index).replaceAll("\n", " ");
    const isPadded = /^ .* $/s.test(inside) && inside.trim();
    this.#at = end ? end.index + ticks.length : this.#text.length;
    if (inside) this.#add(element("code", [isPadded ? inside.slice(1, -1) : inside]));
  }

  // ---- emphasis

  #delimiter(char) {
    const [run] = this.#match(new RegExp(`\\${char}+`, "y"));
    const before = this.#at ? this.#characterBefore() : this.#before;
    const after = this.#text.slice(this.#at + run.length).match(/^./su)?.[0] ?? "";
    const isAtEnd = this.#at + run.length === this.#text.length;
    this.#at += run.length;
    let { canOpen, canClose } = flanks(char, before, after);
    if (run.length > MAX_RUN || (char === "~" && run.length !== 2)) canOpen = canClose = false;
    let left = run.length;
    // the first half of a closing `**`: the second is on its way
    if (isAtEnd && this.#isOpen && this.#nearest(char)?.left > left) return;
    while (canClose && left) {
      const taken = this.#closeEmphasis(char, left, canOpen, run.length);
      if (!taken) break;
      left -= taken;
    }
    if (!left) return;
    const mayOpen = this.#frames.length < MAX_OPEN && (canOpen || (isAtEnd && this.#isOpen));
    if (mayOpen) this.#frames.push({ char, length: run.length, left, canClose, children: [] });
    else this.#put(char.repeat(left));
  }

  #nearest(char) {
    const isBracket = (frame) => frame.char === "[" || frame.char === "![";
    const frame = this.#frames.findLast((frame) => frame.char === char || isBracket(frame));
    return frame?.char === char ? frame : undefined;
  }

  #characterBefore() {
    const code = this.#text.charCodeAt(this.#at - 1);
    return this.#text.slice(this.#at - (isLowSurrogate(code) ? 2 : 1), this.#at);
  }

  /** Closes the nearest emphasis that this run can close; returns how many of its characters that took. */
  #closeEmphasis(char, left, canOpen, length) {
    let index = this.#frames.length - 1;
    for (; index > 0; index--) {
      const frame = this.#frames[index];
      if (frame.char === "[" || frame.char === "![") return 0;
      const isOdd = (canOpen || frame.canClose) && char !== "~" && (frame.length + length) % 3 === 0 && length % 3 !== 0;
      if (frame.char === char && !isOdd) break;
    }
    if (index <= 0) return 0;
    while (this.#frames.length - 1 > index) this.#giveUp(false);
    const frame = this.#frames[index];
    const taken = frame.left >= 2 && left >= 2 ? 2 : 1;
    const wrapped = element(char === "~" ? "del" : taken === 2 ? "strong" : "em", frame.children);
    frame.left -= taken;
    if (frame.left) frame.children = [wrapped];
    else {
      this.#frames.pop();
      this.#add(wrapped);
    }
    return taken;
  }

  /** Ends the innermost frame without its end: as it was written, or, while text still comes, as it will likely be. */
  #giveUp(isLikely) {
    const frame = this.#frames.pop();
    if (isLikely && frame.char !== "[" && frame.char !== "![") {
      const kind = frame.char === "~" ? "del" : frame.left >= 2 ? "strong" : "em";
      if (frame.children.length) this.#add(element(kind, frame.children));
      return;
    }
    this.#put(frame.char.length > 1 || frame.char === "[" ? frame.char : frame.char.repeat(frame.left));
    this.#addAll(frame.children);
  }

  // ---- links

  #bracket(char) {
    if (this.#frames.length >= MAX_OPEN) return this.#literal(1);
    this.#at += char === "[" ? 1 : 2;
    this.#frames.push({ char: char === "[" ? "[" : "![", isInert: false, children: [] });
  }

  #close() {
    const index = this.#frames.findLastIndex((frame) => frame.char === "[" || frame.char === "![");
    if (index < 1) return this.#literal(1);
    while (this.#frames.length - 1 > index) this.#giveUp(false);
    this.#at += 1;
    const found = this.#match(DESTINATION);
    const address = found && webAddress(unescaped(found[1] ?? found[2]));
    const isComing = !found && this.#isOpen && COMING.test(this.#text.slice(this.#at));
    if ((!address && !isComing) || this.#frames[index].isInert) {
      this.#giveUp(false);
      return this.#put("]");
    }
    const { children } = this.#frames.pop();
    if (isComing) {
      if (this.#text[this.#at] !== "(") return this.#addAll([document.createTextNode("["), ...children, document.createTextNode("]")]);
      this.#at = this.#text.length;
      return this.#add(element("span", children));
    }
    this.#at += found[0].length;
    for (const frame of this.#frames) frame.isInert = true; // there is no link in a link
    // an image would tell its server who reads this, and when: it is a link like any other
    return this.#add(anchor(address, children.length ? children : [address.href]));
  }

  #angle() {
    const line = this.#match(BREAK) ?? (this.#isOpen ? this.#match(BREAK_COMING) : null);
    if (line) {
      this.#at += line[0].length;
      return line[0].endsWith(">") ? this.#add(document.createElement("br")) : undefined;
    }
    const found = this.#match(ANGLE_URL);
    const address = found && webAddress(found[1]);
    if (!address) return this.#literal(1);
    this.#at += found[0].length;
    return this.#add(anchor(address, [found[1].replace(/^mailto:/i, "")]));
  }

  /** An address in the middle of text, where a word may begin. */
  #address() {
    const isInWord = /[\p{L}\p{N}_]/u.test(this.#at ? this.#characterBefore() : this.#before);
    const found = this.#match(BARE_URL);
    const isInLink = this.#frames.some((frame) => frame.char === "[");
    const url = found && !(isInWord && !CJK.test(this.#characterBefore())) && !isInLink ? trimmed(found[0]) : "";
    const address = url && webAddress(url);
    if (!address) return this.#literal(1);
    this.#at += url.length;
    return this.#add(anchor(address, [url]));
  }

  #add(node) {
    this.#frames.at(-1).children.push(node);
  }

  #addAll(nodes) {
    for (const node of nodes) node.nodeType === 3 ? this.#put(node.data) : this.#add(node);
  }
}

/** Which way a run of delimiters may work, by what is on its two sides. */
function flanks(char, before, after) {
  const isSpaceBefore = SPACE.test(before);
  const isSpaceAfter = SPACE.test(after);
  const isMarkBefore = PUNCTUATION.test(before);
  const isMarkAfter = PUNCTUATION.test(after);
  const isEdge = (character) => char !== "_" && CJK.test(character);
  const isLeft = !isSpaceAfter && (!isMarkAfter || isSpaceBefore || isMarkBefore || isEdge(before));
  const isRight = !isSpaceBefore && (!isMarkBefore || isSpaceAfter || isMarkAfter || isEdge(after));
  if (char !== "_") return { canOpen: isLeft, canClose: isRight };
  return { canOpen: isLeft && (!isRight || isMarkBefore), canClose: isRight && (!isLeft || isMarkAfter) };
}

/** Cuts off what belongs to the sentence, not to the address: marks at its end, and a Korean particle. */
function trimmed(url) {
  const particle = url.search(/(?<=[\w)])[\p{Script=Hangul}]/u);
  let end = particle < 0 ? url : url.slice(0, particle);
  for (;;) {
    const isUnbalanced = end.endsWith(")") && end.split(")").length > end.split("(").length;
    if (!isUnbalanced && !/[?!.,:;*_~'"’”。、]$/u.test(end)) return end;
    end = end.slice(0, -1);
  }
}

const unescaped = (text) => text.replace(/\\([!-/:-@[-`{-~])/g, "$1");

/** Returns the address if a person may be led there from here: the web and mail, never `javascript:` or `data:`. */
export function webAddress(text) {
  const address = URL.canParse(text) ? new URL(text) : null;
  return address && ["https:", "http:", "mailto:"].includes(address.protocol) ? address : null;
}

export function anchor(address, children) {
  const link = element("a", children);
  link.href = address.href;
  link.title = address.href;
  link.rel = "noopener noreferrer";
  link.target = "_blank";
  return link;
}

function element(name, children) {
  const made = document.createElement(name);
  made.append(...children);
  return made;
}
