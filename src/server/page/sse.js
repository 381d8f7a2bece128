/* sse.js - server-sent events out of pieces of text, cut anywhere.
 *
 * In: text in any pieces. Out: onEvent({ type, data, id }) for each complete event, onComment(text)
 * for lines that begin with a colon (signs of life). Lines end in LF, CR or CRLF; a first byte order
 * mark is left out; an event that the end of the stream cuts off is dropped, as the format says.
 * Format: HTML Living Standard, 9.2.6. */

const MOST = 64 * 1024 * 1024; // characters of one event: more than any answer has

export class EventParser {
  constructor(onEvent, onComment = () => {}) {
    this.onEvent = onEvent;
    this.onComment = onComment;
    this.pending = []; // pieces of the line that has not ended
    this.afterCr = false;
    this.first = true;
    this.id = '';
    this.clear();
  }

  clear() {
    this.type = '';
    this.lines = [];
    this.size = 0;
  }

  push(text) {
    if (this.first && text !== '') {
      this.first = false;
      if (text.charCodeAt(0) === 0xfeff) {
        text = text.slice(1);
      }
    }
    let from = 0;
    for (let i = 0; i < text.length; i++) {
      const c = text.charCodeAt(i);
      const skip = c === 10 && this.afterCr; // the second half of CRLF
      this.afterCr = c === 13;
      if (skip) {
        from = i + 1;
      } else if (c === 10 || c === 13) {
        this.pending.push(text.slice(from, i));
        from = i + 1;
        this.line(this.pending.length === 1 ? this.pending[0] : this.pending.join(''));
        this.pending = [];
      }
    }
    if (from < text.length) {
      this.size += text.length - from;
      this.pending.push(text.slice(from));
    }
    if (this.size > MOST) {
      throw new Error('an event of the stream is larger than this page takes');
    }
  }

  line(line) {
    if (line === '') {
      const event = { type: this.type || 'message', data: this.lines.join('\n'), id: this.id };
      const any = this.lines.length > 0;
      this.clear();
      if (any) {
        this.onEvent(event);
      }
      return;
    }
    const colon = line.indexOf(':');
    if (colon === 0) {
      this.onComment(line.slice(1).trim());
      return;
    }
    const field = colon < 0 ? line : line.slice(0, colon);
    let value = colon < 0 ? '' : line.slice(colon + 1);
    if (value.startsWith(' ')) {
      value = value.slice(1);
    }
    if (field === 'data') {
      this.lines.push(value);
      this.size += value.length;
    } else if (field === 'event') {
      this.type = value;
    } else if (field === 'id' && !value.includes('\0')) {
      this.id = value;
    }
  }
}
