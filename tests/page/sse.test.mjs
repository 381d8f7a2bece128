/* Server-sent events: the format's cases, and that cutting anywhere changes nothing. */
import assert from 'node:assert/strict';
import test from 'node:test';
import { EventParser } from '../../src/server/page/sse.js';

function events(pieces) {
  const out = [];
  const comments = [];
  const parser = new EventParser((event) => out.push(event), (text) => comments.push(text));
  pieces.forEach((piece) => parser.push(piece));
  return { out: out.map((e) => [e.type, e.data, e.id]), comments };
}

const CASES = [
  ['one', 'data: a\n\n', [['message', 'a', '']]],
  ['two', 'data: a\n\ndata: b\n\n', [['message', 'a', ''], ['message', 'b', '']]],
  ['several lines', 'data: a\ndata:b\ndata:  c\n\n', [['message', 'a\nb\n c', '']]],
  ['type and id', 'event: x\nid: 7\ndata: a\n\ndata: b\n\n', [['x', 'a', '7'], ['message', 'b', '7']]],
  ['no data, no event', 'event: x\n\n: hello\n\n', []],
  ['empty data', 'data\n\ndata:\n\n', [['message', '', ''], ['message', '', '']]],
  ['CRLF', 'data: a\r\n\r\ndata: b\r\n\r\n', [['message', 'a', ''], ['message', 'b', '']]],
  ['CR', 'data: a\r\rdata: b\r\r', [['message', 'a', ''], ['message', 'b', '']]],
  ['mixed', 'data: a\r\ndata: b\rdata: c\n\n', [['message', 'a\nb\nc', '']]],
  ['byte order mark', '\ufeffdata: a\n\n', [['message', 'a', '']]],
  ['cut off', 'data: a\n\ndata: b\n', [['message', 'a', '']]],
  ['unknown fields', 'retry: 5\nfoo: bar\ndata: a\n\n', [['message', 'a', '']]],
  ['colon in data', 'data: {"a":"b: c"}\n\n', [['message', '{"a":"b: c"}', '']]],
  ['id with NUL', 'id: a\u0000b\ndata: x\n\n', [['message', 'x', '']]],
];
for (const [name, text, expected] of CASES) {
  test(name, () => assert.deepEqual(events([text]).out, expected));
  test(`${name}, cut at every place`, () => {
    assert.deepEqual(events([...text]).out, expected);
    for (let i = 0; i <= text.length; i++) {
      assert.deepEqual(events([text.slice(0, i), '', text.slice(i)]).out, expected);
    }
  });
}
/* processor time of this process: what else the machine does must not decide a test */
const processorMs = () => process.cpuUsage().user / 1000;

test('comments', () => assert.deepEqual(events([': ping\n\n:\n']).comments, ['ping', '']));
test('an endless line is refused', () => {
  const parser = new EventParser(() => {});
  const piece = `data: ${'x'.repeat(8 * 1024 * 1024)}`;
  assert.throws(() => {
    for (let i = 0; i < 20; i++) {
      parser.push(piece);
    }
  }, /larger/);
});
test('a large answer is quick', () => {
  const start = processorMs();
  const { out } = events(Array.from({ length: 100000 }, (_, i) => `data: {"i":${i}}\n\n`));
  assert.equal(out.length, 100000);
  assert.ok(processorMs() - start < 3000);
});
