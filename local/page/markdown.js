// Markdown as DOM nodes while it comes, piece by piece, split anywhere. Each piece touches the open block only, so that
// an answer costs the same per piece however long it is. No HTML: what looks like a tag is text.
// Source: CommonMark 0.31.2 and GFM tables, task lists and strikethrough; left out: indented code, which models mean as the
// continuation of a list, reference links, and HTML.

import { InlineText } from "./markdown-inline.js";

const MAX_UNDECIDED = 1_000;
const MAX_LIVE_ROW = 4_000;
const MAX_COLUMNS = 100;
const MAX_DEPTH = 20;
const RULE = /^([-*_])[ \t]*(?:\1[ \t]*){2,}$/;
const RULE_COMING = /^([-*_])[ \t]*(?:\1[ \t]*)*$/;
const HEADING = /^(#{1,6})(?:[ \t]+|$)/;
const FENCE = /^(`{3,}|~{3,})([^`]*)$/;
const FENCE_COMING = /^(?:`{1,2}|~{1,2}|(?:`{3,}|~{3,})[^`]*)$/;
const SETEXT = /^(=+|-+)[ \t]*$/;
const MARKER = /^([-*+]|\d{1,9}[.)])([ \t]+|$)/;
const MARKER_COMING = /^(?:[-*+]|\d{1,9}[.)]?)[ \t]*$/;
const TASK = /^\[([ xX])\][ \t]+/;
const TASK_COMING = /^\[(?:[ xX]\]?[ \t]*)?$/;
const DELIMITERS = /^\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*$/;
const DELIMITERS_COMING = /^[|:\- \t]+$/;

/** Shows Markdown in an element. `decorateCode(pre, language)` may put something around a code block. */
export class Markdown {
  #stack;
  #leaf = null;
  #line = "";
  #isDecided = false;
  #decorateCode;

  constructor(root, { decorateCode = (pre) => pre } = {}) {
    this.#stack = [{ kind: "root", element: root, list: null, sawBlank: false }];
    this.#decorateCode = decorateCode;
  }

  append(text) {
    const lines = text.replaceAll("\r", "").split("\n");
    for (const [index, line] of lines.entries()) this.#take(line, index < lines.length - 1);
  }

  /** No more text comes: what is open stays as it is. */
  end() {
    if (this.#line) this.#decide(true);
    this.#closeLeaf();
  }

  #take(part, isWhole) {
    if (this.#isDecided) this.#leaf?.text(part);
    else {
      this.#line += part;
      if (this.#line || isWhole) this.#decide(isWhole || this.#line.length > MAX_UNDECIDED);
    }
    if (!isWhole) return;
    this.#leaf?.endLine();
    if (this.#leaf?.isLine) this.#closeLeaf();
    this.#isDecided = false;
    this.#line = "";
  }

  /** Finds out what kind of line this is; while its beginning may still become several kinds, nothing is shown. */
  #decide(isWhole) {
    const line = this.#line.replace(/^[ \t]+/, (indent) => indent.replaceAll("\t", "    "));
    const reading = new LineStart(line, isWhole, this.#stack, this.#leaf);
    if (reading.isUndecided) return;
    this.#isDecided = true;
    this.#line = "";
    this.#apply(reading);
  }

  #apply({ depth, containers, block, rest }) {
    if (block.kind === "blank") return this.#blank(depth);
    const isContinued = block.kind === "text" && !block.isRow && this.#leaf?.kind === "paragraph" && !containers.length;
    const isInside = depth === this.#stack.length && !containers.length;
    if (block.kind === "code text") return this.#leaf.startLine(rest);
    if (block.kind === "delimiters") return this.#turnIntoTable(block.alignments);
    if (block.kind === "setext") return this.#turnIntoHeading(block.level);
    if (block.kind === "text" && this.#leaf?.kind === "table" && isInside) return this.#leaf.startRow(rest);
    if (isContinued) return this.#leaf.startLine(rest);
    this.#closeLeaf();
    while (this.#stack.length > depth) this.#stack.pop();
    for (const container of containers) this.#openContainer(container);
    this.#openLeaf(block, rest);
  }

  #blank(depth) {
    this.#closeLeaf();
    while (this.#stack.length > depth) this.#stack.pop();
    for (const container of this.#stack) container.sawBlank = true;
  }

  // ---- blocks

  #openContainer({ kind, indent, start, marker, isDone }) {
    const parent = this.#stack.at(-1);
    if (kind === "quote") {
      const element = this.#place(document.createElement("blockquote"));
      this.#stack.push({ kind, element, list: null, sawBlank: false });
      return;
    }
    const list = this.#listFor(parent, marker);
    const element = document.createElement("li");
    list.element.append(element);
    if (isDone !== undefined) element.append(checkbox(isDone));
    this.#stack.push({ kind, element, indent, start, list: null, sawBlank: false });
  }

  #listFor(parent, marker) {
    const type = marker.at(-1);
    if (parent.list?.type === type) {
      if (parent.sawBlank) parent.list.element.classList.add("loose");
      parent.sawBlank = false;
      return parent.list;
    }
    const isOrdered = type === "." || type === ")";
    const element = this.#place(document.createElement(isOrdered ? "ol" : "ul"));
    if (isOrdered && parseInt(marker, 10) !== 1) element.start = parseInt(marker, 10);
    parent.list = { type, element };
    return parent.list;
  }

  #openLeaf({ kind, level, info, fence, indent }, rest) {
    if (kind === "empty") return;
    if (kind === "rule") this.#place(document.createElement("hr"));
    else if (kind === "code") this.#openCode(info, fence, indent);
    else if (kind === "heading") this.#leaf = new Heading(this.#place(document.createElement(`h${level}`)), rest);
    else this.#leaf = new Paragraph(this.#place(document.createElement("p")), rest);
  }

  #openCode(info, fence, indent) {
    const language = info.trim().split(/\s/)[0];
    const code = document.createElement("code");
    const pre = document.createElement("pre");
    pre.append(code);
    this.#place(this.#decorateCode(pre, language));
    this.#leaf = new Code(code, fence, indent);
  }

  /** Puts a new block into the innermost container. */
  #place(element) {
    const container = this.#stack.at(-1);
    if (container.sawBlank && container.kind === "item") container.element.parentElement.classList.add("loose");
    container.sawBlank = false;
    container.list = null;
    container.element.append(element);
    return element;
  }

  #closeLeaf() {
    this.#leaf?.end();
    this.#leaf = null;
  }

  #turnIntoTable(alignments) {
    const { element, source } = this.#leaf;
    const table = new Table(alignments);
    table.startRow(source);
    table.endLine();
    element.replaceWith(table.element);
    this.#leaf = table;
  }

  #turnIntoHeading(level) {
    const { element } = this.#leaf;
    this.#closeLeaf();
    const heading = document.createElement(`h${level}`);
    heading.append(...element.childNodes);
    element.replaceWith(heading);
  }
}

/**
 * What the beginning of a line says: how many of the open containers go on (`depth`), which `containers` begin, what
 * `block` stands in them, and the `rest` that is its text. `isUndecided` while more of the line is needed.
 */
class LineStart {
  isUndecided = false;
  depth = 1;
  containers = [];
  block = null;
  #line;
  #isWhole;
  #stack;
  #leaf;
  #at = 0;

  constructor(line, isWhole, stack, leaf) {
    this.#line = line;
    this.#isWhole = isWhole;
    this.#stack = stack;
    this.#leaf = leaf;
    this.#continueContainers();
    while (!this.isUndecided && !this.block) this.#next();
    this.rest = this.#line.slice(this.#at);
  }

  get #indent() {
    return this.#line.slice(this.#at).search(/[^ ]|$/);
  }

  get #isAtEnd() {
    return this.#at + this.#indent === this.#line.length;
  }

  /** Waits for more of the line; true unless there is no more. */
  #waits(isComing) {
    if (isComing && !this.#isWhole) this.isUndecided = true;
    return this.isUndecided;
  }

  #continueContainers() {
    for (; this.depth < this.#stack.length; this.depth++) {
      if (this.#waits(this.#isAtEnd)) return;
      const container = this.#stack[this.depth];
      const goesOn = container.kind === "quote" ? this.#continueQuote() : this.#continueItem(container);
      if (!goesOn || this.isUndecided) return;
    }
  }

  #continueQuote() {
    const indent = this.#indent;
    if (indent > 3 || this.#line[this.#at + indent] !== ">") return false;
    this.#at += indent + 1;
    if (this.#waits(this.#at === this.#line.length)) return false;
    if (this.#line[this.#at] === " ") this.#at += 1;
    return true;
  }

  #continueItem({ indent, start }) {
    if (this.#isAtEnd) return true;
    const own = this.#indent;
    // models indent by two under "1." as well; and code that has begun in an item ends with its fence only
    const isMeant = own >= Math.min(indent, start + 2) || this.#leaf?.kind === "code";
    if (isMeant) this.#at += Math.min(own, indent);
    return isMeant;
  }

  /** Reads one thing: another container, or the block. */
  #next() {
    const isInside = this.depth === this.#stack.length && !this.containers.length;
    if (this.#leaf?.kind === "code" && isInside) return this.#readCode();
    if (this.#isAtEnd) return this.#readEnd();
    const indent = this.#indent;
    const rest = this.#line.slice(this.#at + indent);
    const isDeep = this.depth + this.containers.length > MAX_DEPTH;
    if (rest[0] === ">" && !isDeep) return this.#openQuote(indent);
    const isAfterText = isInside && this.#leaf?.kind === "paragraph";
    this.block = this.#readBlock(rest, isAfterText, indent);
    if (this.isUndecided) return;
    if (this.block) return void (this.#at += indent + (this.block.length ?? 0));
    if (!isDeep && (this.#openItem(rest, indent, isAfterText) || this.isUndecided)) return;
    this.block = this.#readText(rest, isAfterText);
    this.#at += indent;
  }

  #readEnd() {
    if (this.#waits(true)) return;
    this.#at = this.#line.length;
    this.block = { kind: this.containers.length ? "empty" : "blank" };
  }

  #readCode() {
    const { fence, indent } = this.#leaf;
    const content = this.#line.slice(this.#at + Math.min(this.#indent, indent));
    const bare = content.trim();
    const isFence = bare.replaceAll(fence[0], "") === "" && content.search(/[^ ]|$/) <= 3;
    if (isFence && this.#waits(true)) return;
    this.#at = this.#line.length - content.length;
    this.block = isFence && bare.length >= fence.length ? { kind: "empty" } : { kind: "code text" };
  }

  #openQuote(indent) {
    this.#at += indent + 1;
    if (this.#waits(this.#at === this.#line.length)) return;
    if (this.#line[this.#at] === " ") this.#at += 1;
    this.containers.push({ kind: "quote" });
  }

  #readBlock(rest, isAfterText, indent) {
    const heading = HEADING.exec(rest);
    if (/^#{1,6}[ \t]*$/.test(rest) && this.#waits(true)) return null;
    if (heading) return { kind: "heading", level: heading[1].length, length: heading[0].length };
    if (FENCE_COMING.test(rest) && this.#waits(true)) return null;
    const fence = FENCE.exec(rest);
    if (fence) return { kind: "code", fence: fence[1], info: fence[2], indent, length: rest.length };
    if (isAfterText && /^=+[ \t]*$/.test(rest) && this.#waits(true)) return null;
    if (RULE_COMING.test(rest) && this.#waits(true)) return null;
    const setext = isAfterText && SETEXT.exec(rest);
    if (setext && !(this.#leaf.lines === 1 && this.#isTable(rest))) return { kind: "setext", level: setext[1][0] === "=" ? 1 : 2 };
    return RULE.test(rest) ? { kind: "rule", length: rest.length } : null;
  }

  #openItem(rest, indent, isAfterText) {
    if (MARKER_COMING.test(rest) && this.#waits(true)) return false;
    const found = MARKER.exec(rest);
    if (!found) return false;
    const [, marker, space] = found;
    const content = rest.slice(found[0].length);
    if (isAfterText && (!content || (marker.length > 1 && parseInt(marker, 10) !== 1))) return false;
    if (TASK_COMING.test(content) && this.#waits(true)) return false;
    const task = TASK.exec(content);
    const width = marker.length + (content && space.length <= 4 ? space.length : 1);
    this.containers.push({ kind: "item", marker, start: indent, indent: indent + width, isDone: task ? task[1] !== " " : undefined });
    this.#at += indent + found[0].length + (task ? task[0].length : 0);
    return true;
  }

  #readText(rest, isAfterText) {
    if (isAfterText && this.#leaf.lines === 1 && this.#leaf.source.includes("|")) {
      if (DELIMITERS_COMING.test(rest) && this.#waits(true)) return null;
      if (this.#isTable(rest)) return { kind: "delimiters", alignments: cells(rest).map(alignment) };
    }
    // the head of a table is shown as one once the line below it is there
    if (rest[0] === "|" && !(this.#leaf?.kind === "table") && this.#waits(true)) return null;
    return { kind: "text", isRow: isAfterText && /^\|.*\|\s*$/.test(rest) };
  }

  #isTable(rest) {
    const { source } = this.#leaf;
    if (!source.includes("|") || !DELIMITERS.test(rest)) return false;
    const columns = cells(rest).length;
    return columns <= MAX_COLUMNS && cells(source).length === columns;
  }
}

class Paragraph {
  kind = "paragraph";
  lines = 1;
  #inline;

  constructor(element, text) {
    this.element = element;
    this.#inline = new InlineText(element);
    /** Its first line as it came: it may turn out to be the head of a table. */
    this.source = "";
    this.text(text);
    element.hidden = text.startsWith("|");
  }

  startLine(text) {
    this.lines += 1;
    this.element.hidden = false;
    this.#inline.append("\n" + text);
  }

  text(text) {
    if (this.lines === 1 && this.source.length <= MAX_UNDECIDED) this.source += text;
    this.#inline.append(text);
  }

  endLine() {}

  end() {
    this.element.hidden = false;
    this.#inline.end();
  }
}

class Heading {
  kind = "heading";
  isLine = true;
  #inline;
  #held = "";
  #isEmpty = true;

  constructor(element, text) {
    this.element = element;
    this.#inline = new InlineText(element);
    this.text(text);
  }

  /** A closing sequence of `#` is no text: what may be one is held back. */
  text(text) {
    const whole = this.#held + text;
    const trimmed = whole.trimEnd();
    let end = trimmed.length;
    while (trimmed[end - 1] === "#") end -= 1;
    const isClosing = end < trimmed.length && (end ? /\s/.test(trimmed[end - 1]) : this.#isEmpty);
    const kept = (isClosing ? trimmed.slice(0, end) : trimmed).trimEnd();
    this.#held = whole.slice(kept.length);
    this.#isEmpty &&= !kept;
    this.#inline.append(kept);
  }

  endLine() {}

  end() {
    this.#inline.end();
  }
}

class Code {
  kind = "code";
  #text = document.createTextNode("");
  #isFirst = true;

  constructor(element, fence, indent) {
    this.fence = fence;
    this.indent = indent;
    element.append(this.#text);
  }

  startLine(text) {
    this.#text.appendData((this.#isFirst ? "" : "\n") + text);
    this.#isFirst = false;
  }

  text(text) {
    this.#text.appendData(text);
  }

  endLine() {}

  end() {}
}

class Table {
  kind = "table";
  #alignments;
  #table = document.createElement("table");
  #section = this.#table.createTHead();
  #row = null;
  #source = "";

  constructor(alignments) {
    this.#alignments = alignments;
    this.element = document.createElement("div");
    this.element.className = "table";
    this.element.tabIndex = 0;
    this.element.append(this.#table);
  }

  startRow(text) {
    this.#row = this.#section.insertRow();
    this.#source = "";
    this.text(text);
  }

  text(text) {
    if (!this.#row) return;
    this.#source += text;
    if (this.#source.length <= MAX_LIVE_ROW) this.#show();
  }

  endLine() {
    if (!this.#row) return;
    this.#show();
    this.#row = null;
    if (this.#section.localName === "thead") this.#section = this.#table.createTBody();
  }

  end() {
    this.endLine();
    if (!this.#section.rows.length) this.#section.remove();
  }

  #show() {
    const texts = cells(this.#source);
    const name = this.#section.localName === "thead" ? "th" : "td";
    this.#row.replaceChildren(
      ...this.#alignments.map((alignment, index) => {
        const cell = document.createElement(name);
        if (name === "th") cell.scope = "col";
        if (alignment) cell.className = alignment;
        const inline = new InlineText(cell);
        inline.append(texts[index] ?? "");
        inline.end();
        return cell;
      }),
    );
  }
}

/** Parts a row at its bars, less those that are escaped. */
function cells(row) {
  const inner = row.trim().replace(/^\|/, "").replace(/(?<!\\)\|$/, "");
  return inner.split(/(?<!\\)\|/).map((cell) => cell.trim().replaceAll("\\|", "|"));
}

function alignment(cell) {
  if (cell.startsWith(":") && cell.endsWith(":")) return "center";
  return cell.endsWith(":") ? "right" : "";
}

function checkbox(isDone) {
  const box = document.createElement("input");
  box.type = "checkbox";
  box.disabled = true;
  box.checked = isDone;
  return box;
}
