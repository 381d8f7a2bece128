/* markdown.js - the Markdown that models write, to elements, while it arrives.
 *
 * parse(text) gives a tree of plain objects, MarkdownStream keeps elements in step with a text that
 * grows. Markup in the text stays text; links lead to http, https and mailto only; images become links,
 * so that nothing is ever fetched. Bounded: quotes and lists nest 8 deep, emphasis 24, what is deeper
 * stays text; the time for a text is proportional to its length.
 *
 * Blocks:  paragraph, heading, code fence, quote, list, table, rule (CommonMark and GFM, but for
 *          indented code, setext headings, reference links and lazy continuation). A new line in a
 *          paragraph is a new line: models mean it.
 * Inlines: code, emphasis, strong, deleted, link, address, line break. */

const NEST = 8;
const EMPHASIS = 24;
const ADDRESS = 2048;

/* ------------------------------------------------------------------ inlines */

const PUNCTUATION = /[!-/:-@[-`{-~]/;
const isSpace = (c) => c === undefined || c === '' || /\s/.test(c);
const isPunctuation = (c) => c !== undefined && /[\p{P}\p{S}]/u.test(c);

/* The address if it may be followed, else null. */
export function safeAddress(text) {
  return /^(https?:\/\/[^\s/?#]|mailto:[^\s])/i.test(text) && !/[\0-\x20<>"\\^`{|}]/.test(text) &&
    text.length <= ADDRESS ? text : null;
}

/* For each "[" its "]", in one pass; escaped ones do not count. */
function matchBrackets(text) {
  const match = new Map();
  const open = [];
  for (let i = 0; i < text.length; i++) {
    const c = text[i];
    if (c === '\\') {
      i++;
    } else if (c === '[') {
      open.push(i);
    } else if (c === ']' && open.length > 0) {
      match.set(open.pop(), i);
    }
  }
  return match;
}

/* "(address)" or "(address "title")" at i: { address, end }, or null. */
function linkTarget(text, i) {
  if (text[i] !== '(') {
    return null;
  }
  const most = Math.min(text.length, i + ADDRESS + 256);
  let at = i + 1;
  let depth = 0;
  for (; at < most; at++) {
    const c = text[at];
    if (c === '(') {
      if (++depth > NEST) {
        return null;
      }
    } else if (c === ')' && depth-- === 0) {
      return { address: text.slice(i + 1, at), end: at + 1 };
    } else if (isSpace(c)) {
      break;
    }
  }
  const address = text.slice(i + 1, at);
  const title = /^\s+(?:"[^"]{0,200}"|'[^']{0,200}')\s*\)/.exec(text.slice(at, at + 256));
  return title && depth === 0 ? { address, end: at + title[0].length } : null;
}

/* A bare address at i ("https://..."): its end, without the punctuation that closes a sentence. */
function bareAddress(text, i) {
  const found = /^https?:\/\/[^\s<>"`]{1,2048}/i.exec(text.slice(i, i + ADDRESS));
  if (!found) {
    return i;
  }
  let address = found[0];
  for (;;) {
    const last = address[address.length - 1];
    const unbalanced = last === ')' &&
      address.split('(').length < address.split(')').length;
    if (!unbalanced && !/[.,:;!?'*_~\]]/.test(last)) {
      break;
    }
    address = address.slice(0, -1);
  }
  return safeAddress(address) && address.length > 8 ? i + address.length : i;
}

/* A run of * _ or ~ with what it may do (left- and right-flanking, CommonMark 6.2). */
function delimiter(text, i) {
  const c = text[i];
  let end = i;
  while (text[end] === c) {
    end++;
  }
  const before = text[i - 1];
  const after = text[end];
  const left = !isSpace(after) && (!isPunctuation(after) || isSpace(before) || isPunctuation(before));
  const right = !isSpace(before) && (!isPunctuation(before) || isSpace(after) || isPunctuation(after));
  const inWord = c === '_';
  return {
    kind: 'run', c, n: end - i, left: end - i,
    opens: left && (!inWord || !right || isPunctuation(before)),
    closes: right && (!inWord || !left || isPunctuation(after)),
  };
}

/* Pairs the runs. Openers that find no closer stay text. */
function pair(items) {
  const out = [];
  const open = []; // runs of `out` that may still be closed
  for (const item of items) {
    if (item.kind !== 'run') {
      out.push(item);
      continue;
    }
    while (item.closes && item.left > 0) {
      let k = open.length - 1;
      while (k >= 0 && (open[k].c !== item.c ||
        ((open[k].closes || item.opens) && (open[k].n + item.n) % 3 === 0 &&
          (open[k].n % 3 !== 0 || item.n % 3 !== 0)))) {
        k--;
      }
      if (k < 0) {
        break;
      }
      const from = open[k];
      const use = from.left >= 2 && item.left >= 2 ? 2 : 1;
      if (item.c === '~' && use === 1) {
        break;
      }
      const children = out.splice(from.at + 1);
      open.length = k + 1;
      from.left -= use;
      item.left -= use;
      out.push({ kind: item.c === '~' ? 'del' : use === 2 ? 'strong' : 'em', children });
      if (from.left === 0) {
        open.pop();
      }
    }
    if (item.left > 0) {
      item.at = out.length;
      out.push(item);
      if (item.opens) {
        open.push(item);
        if (open.length > EMPHASIS) {
          open.shift();
        }
      }
    }
  }
  return out;
}

/* Text of a block without its marks to [{ kind, text | children, address }]. */
export function inlines(text, links = true) {
  const items = [];
  const brackets = links ? matchBrackets(text) : new Map();
  const unclosed = new Set(); // lengths of backtick runs that have no partner further on
  let from = 0;
  const flush = (to) => {
    if (to > from) {
      items.push({ kind: 'text', text: text.slice(from, to) });
    }
  };
  const add = (at, item, end) => {
    flush(at);
    items.push(item);
    from = end;
    return end;
  };
  let i = 0;
  while (i < text.length) {
    const c = text[i];
    if (c === '\\' && i + 1 < text.length && (PUNCTUATION.test(text[i + 1]) || text[i + 1] === '\n')) {
      if (text[i + 1] === '\n') {
        i = add(i, { kind: 'br' }, i + 2);
      } else {
        i = add(i, { kind: 'text', text: text[i + 1] }, i + 2);
      }
    } else if (c === '\n') {
      let end = i;
      while (end > from && text[end - 1] === ' ') {
        end--;
      }
      add(end, { kind: 'br' }, i + 1);
      i++;
    } else if (c === '`') {
      let end = i;
      while (text[end] === '`') {
        end++;
      }
      const ticks = text.slice(i, end);
      let close = unclosed.has(ticks.length) ? -1 : end;
      while (close >= 0) {
        close = text.indexOf(ticks, close);
        let stop = close;
        while (close >= 0 && text[stop] === '`') {
          stop++;
        }
        if (close < 0 || stop - close === ticks.length) {
          break;
        }
        close = stop;
      }
      if (close < 0) {
        unclosed.add(ticks.length);
        i = end;
      } else {
        let code = text.slice(end, close).replaceAll('\n', ' ');
        if (code.length > 2 && code.startsWith(' ') && code.endsWith(' ') && code.trim()) {
          code = code.slice(1, -1);
        }
        i = add(i, { kind: 'code', text: code }, close + ticks.length);
      }
    } else if (c === '*' || c === '_' || c === '~') {
      const run = delimiter(text, i);
      i = c === '~' && run.n !== 2 ? i + run.n : add(i, run, i + run.n);
    } else if (c === '[' || (c === '!' && text[i + 1] === '[')) {
      const image = c === '!';
      const start = image ? i + 1 : i;
      const close = brackets.get(start);
      const target = close === undefined ? null : linkTarget(text, close + 1);
      const address = target && safeAddress(target.address);
      if (address) {
        const label = text.slice(start + 1, close);
        const children = inlines(image ? `image: ${label || address}` : label || address, false);
        i = add(i, { kind: 'link', address, children }, target.end);
      } else {
        i = start + 1;
      }
    } else if (c === '<' && links) {
      const found = /^<((?:https?:\/\/|mailto:)[^\s<>]{1,2040})>/i.exec(text.slice(i, i + ADDRESS + 2));
      const address = found && safeAddress(found[1]);
      i = address ? add(i, { kind: 'link', address, children: [{ kind: 'text', text: address }] },
        i + found[0].length) : i + 1;
    } else if ((c === 'h' || c === 'H') && links && !/[\p{L}\p{N}_]/u.test(text[i - 1] || ' ')) {
      const end = bareAddress(text, i);
      const address = text.slice(i, end);
      i = end > i ? add(i, { kind: 'link', address, children: [{ kind: 'text', text: address }] }, end)
        : i + 1;
    } else {
      i++;
    }
  }
  flush(text.length);
  return pair(items);
}

/* ------------------------------------------------------------------ blocks */

const FENCE = /^ {0,3}(`{3,}|~{3,})([^\n]*)$/;
const RULE = /^ {0,3}([-*_])(?:[ \t]*\1){2,}[ \t]*$/;
const HEADING = /^ {0,3}(#{1,6})(?:[ \t]|$)/;
const ITEM = /^( {0,3})([-*+]|\d{1,9}[.)])([ \t]+|$)/;
const QUOTE = /^ {0,3}> ?/;
const ROW_RULE = /^ {0,3}\|?[ \t]*:?-+:?[ \t]*(\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*$/;

const isBlank = (line) => line.trim() === '';

function fenceOf(line) {
  const found = FENCE.exec(line);
  return found && !(found[1][0] === '`' && found[2].includes('`')) ? found : null;
}

/* Cells of a row: split at | that is neither escaped nor in code. */
function cells(line) {
  const out = [];
  let cell = '';
  let code = false;
  const text = line.trim();
  for (let i = text[0] === '|' ? 1 : 0; i < text.length; i++) {
    const c = text[i];
    if (c === '\\' && text[i + 1] === '|') {
      cell += '|';
      i++;
    } else if (c === '|' && !code) {
      out.push(cell.trim());
      cell = '';
      if (i === text.length - 1) {
        return out;
      }
    } else {
      code = c === '`' ? !code : code;
      cell += c;
    }
  }
  out.push(cell.trim());
  return out;
}

const tableAt = (lines, i) => i + 1 < lines.length && lines[i].includes('|') &&
  lines[i + 1].includes('-') && ROW_RULE.test(lines[i + 1]) &&
  cells(lines[i]).length === cells(lines[i + 1]).length;

/* Does line i begin a block that ends a paragraph? An ordered list does so only from 1, as in
 * CommonMark: a year at the start of a line is none. */
function begins(lines, i) {
  const line = lines[i];
  const item = ITEM.exec(line);
  return fenceOf(line) || HEADING.test(line) || RULE.test(line) || QUOTE.test(line) ||
    (item && item[3] !== '' && (!/\d/.test(item[2]) || parseInt(item[2], 10) === 1)) ||
    tableAt(lines, i);
}

const indentOf = (line) => line.length - line.trimStart().length;

function readFence(lines, i, found) {
  const mark = found[1];
  const indent = indentOf(lines[i]);
  const body = [];
  let at = i + 1;
  for (; at < lines.length; at++) {
    const close = FENCE.exec(lines[at]);
    if (close && close[1][0] === mark[0] && close[1].length >= mark.length && isBlank(close[2])) {
      break;
    }
    body.push(lines[at].slice(Math.min(indent, indentOf(lines[at]))));
  }
  return {
    block: {
      kind: 'code', language: found[2].trim().split(/\s/)[0].slice(0, 40),
      text: body.join('\n'), closed: at < lines.length,
    },
    next: at + 1,
  };
}

function readList(lines, i, depth) {
  const first = ITEM.exec(lines[i]);
  const ordered = /\d/.test(first[2]);
  const mark = first[2][first[2].length - 1];
  const list = { kind: 'list', ordered, start: ordered ? parseInt(first[2], 10) : 1, items: [], loose: false };
  let at = i;
  while (at < lines.length) {
    const found = ITEM.exec(lines[at]);
    if (!found || found[2][found[2].length - 1] !== mark || RULE.test(lines[at])) {
      break;
    }
    const width = found[3].length > 4 || found[3] === '' ? found[1].length + found[2].length + 1
      : found[0].length;
    const body = [lines[at].slice(Math.min(width, lines[at].length))];
    let blank = false;
    for (at++; at < lines.length; at++) {
      const line = lines[at];
      if (isBlank(line)) {
        blank = true;
        body.push('');
      } else if (indentOf(line) >= Math.min(width, 4) || (indentOf(line) >= 2 && !ITEM.test(line))) {
        body.push(line.slice(Math.min(width, indentOf(line))));
        blank = false;
      } else if (blank || begins(lines, at) || ITEM.test(line)) {
        break;
      } else {
        body.push(line); // goes on with the item's paragraph
      }
    }
    list.loose ||= blank && at < lines.length && ITEM.test(lines[at]);
    const task = /^\[([ xX])\][ \t]+/.exec(body[0]);
    if (task) {
      body[0] = body[0].slice(task[0].length);
    }
    list.items.push({ task: task ? task[1] !== ' ' : null, blocks: parseLines(body, depth + 1) });
  }
  return { block: list, next: at };
}

function readTable(lines, i) {
  const align = cells(lines[i + 1]).map((cell) =>
    (cell.endsWith(':') ? (cell.startsWith(':') ? 'centre' : 'right') : 'left'));
  const table = { kind: 'table', align, head: cells(lines[i]).map((cell) => inlines(cell)), rows: [] };
  let at = i + 2;
  for (; at < lines.length && !isBlank(lines[at]) && lines[at].includes('|'); at++) {
    const row = cells(lines[at]).slice(0, align.length);
    while (row.length < align.length) {
      row.push('');
    }
    table.rows.push(row.map((cell) => inlines(cell)));
  }
  return { block: table, next: at };
}

function readHeading(line, level) {
  let end = line.trimEnd();
  const text = end.trimStart().slice(level).trim();
  end = text.length;
  while (end > 0 && text[end - 1] === '#') {
    end--;
  }
  const bare = end === 0 || /[ \t]/.test(text[end - 1]) ? text.slice(0, end).trim() : text;
  return { kind: 'heading', level, children: inlines(bare) };
}

function readQuote(lines, i, depth) {
  const body = [];
  let at = i;
  for (; at < lines.length && QUOTE.test(lines[at]); at++) {
    body.push(lines[at].replace(QUOTE, ''));
  }
  return { block: { kind: 'quote', blocks: parseLines(body, depth + 1) }, next: at };
}

/* One block at line i (not blank): { block, next }. */
function readBlock(lines, i, depth) {
  const line = lines[i];
  const fence = fenceOf(line);
  if (fence) {
    return readFence(lines, i, fence);
  }
  const heading = HEADING.exec(line);
  if (heading) {
    return { block: readHeading(line, heading[1].length), next: i + 1 };
  }
  if (RULE.test(line)) {
    return { block: { kind: 'rule' }, next: i + 1 };
  }
  if (depth < NEST && QUOTE.test(line)) {
    return readQuote(lines, i, depth);
  }
  if (depth < NEST && ITEM.test(line)) {
    return readList(lines, i, depth);
  }
  if (tableAt(lines, i)) {
    return readTable(lines, i);
  }
  let at = i + 1;
  while (at < lines.length && !isBlank(lines[at]) && (depth >= NEST || !begins(lines, at))) {
    at++;
  }
  const text = lines.slice(i, at).map((part) => part.trimStart()).join('\n').trimEnd();
  return { block: { kind: 'paragraph', children: inlines(text) }, next: at };
}

function parseLines(lines, depth) {
  const blocks = [];
  let i = 0;
  while (i < lines.length) {
    if (isBlank(lines[i])) {
      i++;
      continue;
    }
    const { block, next } = readBlock(lines, i, depth);
    block.line = i;
    blocks.push(block);
    i = next;
  }
  return blocks;
}

/* Blocks of a text; each has `line`, the number of its first line. */
export function parse(text) {
  return parseLines(text.replaceAll('\r\n', '\n').split('\n'), 0);
}

/* ------------------------------------------------------------------ elements */

function make(doc, name, className, text) {
  const node = doc.createElement(name);
  if (className) {
    node.setAttribute('class', className);
  }
  if (text !== undefined) {
    node.append(doc.createTextNode(text));
  }
  return node;
}

function fillInlines(doc, node, list) {
  for (const item of list) {
    if (item.kind === 'text') {
      node.append(doc.createTextNode(item.text));
    } else if (item.kind === 'run') {
      node.append(doc.createTextNode(item.c.repeat(item.left)));
    } else if (item.kind === 'br') {
      node.append(make(doc, 'br'));
    } else if (item.kind === 'code') {
      node.append(make(doc, 'code', '', item.text));
    } else {
      const inner = make(doc, item.kind === 'link' ? 'a' : item.kind);
      if (item.kind === 'link') {
        inner.setAttribute('href', item.address);
        inner.setAttribute('rel', 'noopener noreferrer nofollow');
        inner.setAttribute('target', '_blank');
      }
      fillInlines(doc, inner, item.children);
      node.append(inner);
    }
  }
  return node;
}

function codeElement(doc, block) {
  const box = make(doc, 'div', 'code');
  const bar = make(doc, 'div', 'bar');
  const copy = make(doc, 'button', 'copy', 'Copy');
  copy.setAttribute('type', 'button');
  copy.setAttribute('aria-label', block.language ? `Copy ${block.language} code` : 'Copy code');
  bar.append(make(doc, 'span', '', block.language || 'text'), copy);
  const pre = make(doc, 'pre');
  pre.setAttribute('tabindex', '0');
  pre.setAttribute('role', 'region');
  pre.setAttribute('aria-label', block.language ? `${block.language} code` : 'Code');
  pre.append(make(doc, 'code', '', block.text));
  box.append(bar, pre);
  return box;
}

function tableElement(doc, block) {
  const box = make(doc, 'div', 'scroll');
  box.setAttribute('tabindex', '0');
  box.setAttribute('role', 'region');
  box.setAttribute('aria-label', 'Table');
  const table = make(doc, 'table');
  const row = (list, name) => {
    const tr = make(doc, 'tr');
    list.forEach((cell, i) => {
      tr.append(fillInlines(doc, make(doc, name, block.align[i]), cell));
    });
    return tr;
  };
  const head = make(doc, 'thead');
  head.append(row(block.head, 'th'));
  const body = make(doc, 'tbody');
  block.rows.forEach((list) => body.append(row(list, 'td')));
  table.append(head, body);
  box.append(table);
  return box;
}

function listElement(doc, block) {
  const list = make(doc, block.ordered ? 'ol' : 'ul', block.loose ? 'loose' : '');
  if (block.ordered && block.start !== 1) {
    list.setAttribute('start', String(block.start));
  }
  for (const item of block.items) {
    const li = make(doc, 'li', item.task === null ? '' : 'task');
    if (item.task !== null) {
      li.append(doc.createTextNode(item.task ? '☑ ' : '☐ '));
    }
    item.blocks.forEach((inner, i) => {
      if (i === 0 && inner.kind === 'paragraph' && !block.loose) {
        fillInlines(doc, li, inner.children);
      } else {
        li.append(blockElement(doc, inner));
      }
    });
    list.append(li);
  }
  return list;
}

/* Headings of an answer stand below those of the page: # is h3. */
export function blockElement(doc, block) {
  switch (block.kind) {
  case 'heading':
    return fillInlines(doc, make(doc, `h${Math.min(6, block.level + 2)}`), block.children);
  case 'code':
    return codeElement(doc, block);
  case 'quote': {
    const quote = make(doc, 'blockquote');
    block.blocks.forEach((inner) => quote.append(blockElement(doc, inner)));
    return quote;
  }
  case 'list':
    return listElement(doc, block);
  case 'table':
    return tableElement(doc, block);
  case 'rule':
    return make(doc, 'hr');
  default:
    return fillInlines(doc, make(doc, 'p'), block.children);
  }
}

/* A text that grows, and its elements as children of `root`. Blocks that nothing to come can change
 * are made once; only from the start of the last one on is the text read again. */
export class MarkdownStream {
  constructor(root) {
    this.root = root;
    this.doc = root.ownerDocument;
    this.tail = ''; // from the first block that may still change
    this.loose = []; // elements of the tail
    this.open = null; // of a code fence that is the whole tail: { node, length }
  }

  write(text) {
    this.tail += text;
    if (this.open && !this.growsOpenFence()) {
      this.open = null;
    }
    if (!this.open) {
      this.read();
    }
  }

  /* The usual piece of a long code block: complete lines and no mark in them. */
  growsOpenFence() {
    const more = this.tail.slice(this.open.length);
    if (/[`~\r]/.test(more)) {
      return false;
    }
    this.open.node.append(this.doc.createTextNode(more));
    this.open.length = this.tail.length;
    return true;
  }

  read() {
    const text = this.tail.replaceAll('\r\n', '\n');
    const blocks = parse(text);
    const lines = text.split('\n');
    this.loose.forEach((node) => node.remove());
    this.loose = blocks.map((block) => blockElement(this.doc, block));
    this.root.append(...this.loose);
    // a block is settled when the next one has two complete lines: a table is known by its second
    let last = blocks.length - 1;
    while (last > 0 && blocks[last].line + 1 >= lines.length - 1) {
      last--;
    }
    if (last > 0) {
      this.tail = lines.slice(blocks[last].line).join('\n');
      this.loose = this.loose.slice(last);
    }
    const block = blocks[blocks.length - 1];
    if (block && last === blocks.length - 1 && block.kind === 'code' && !block.closed &&
      this.tail.includes('\n') && !/^\s|\r$/.test(this.tail)) {
      this.open = { node: this.loose[0].lastChild.firstChild, length: this.tail.length };
    }
  }
}

/* Once for a whole text. */
export function renderMarkdown(root, text) {
  parse(text).forEach((block) => root.append(blockElement(root.ownerDocument, block)));
}
