/* Conversations: what is sent of them, what an import accepts, what is kept. */
import assert from 'node:assert/strict';
import test from 'node:test';
import { Store, newAnswer, newChat, readChat, readExport, textPart, titleOf, wire } from '../../src/server/page/chats.js';
import { modelOf } from '../../src/server/page/models.js';

class Memory {
  constructor(most = Infinity) {
    this.map = new Map();
    this.most = most;
  }

  getItem(key) {
    return this.map.has(key) ? this.map.get(key) : null;
  }

  setItem(key, value) {
    if (value.length > this.most) {
      throw new Error('QuotaExceededError');
    }
    this.map.set(key, value);
  }

  removeItem(key) {
    this.map.delete(key);
  }
}

const answer = (text, more = {}) => ({ ...newAnswer('m'), parts: text ? [textPart(text)] : [], ...more });
function sample() {
  const chat = newChat();
  chat.messages = [
    { role: 'user', parts: [textPart('Weather in Lima?')] },
    {
      role: 'assistant', shown: 1,
      versions: [answer('old'), answer('', { reasoning: 'hm', calls: [{ id: 'c1', name: 'w', arguments: '{"a":1}' }] })],
    },
    { role: 'tool', call: 'c1', name: 'w', parts: [textPart('18')] },
    { role: 'assistant', shown: 0, versions: [answer('18 degrees', { receipt: { seed: 1 } })] },
    { role: 'user', parts: [textPart('Thanks')] },
    { role: 'assistant', shown: 0, versions: [answer('', { error: { message: 'full' } })] },
  ];
  return chat;
}

test('what is sent', () => assert.deepEqual(wire(sample(), 'Be brief.'), [
  { role: 'system', content: 'Be brief.' },
  { role: 'user', content: 'Weather in Lima?' },
  {
    role: 'assistant', content: '', reasoning_content: 'hm',
    tool_calls: [{ id: 'c1', type: 'function', function: { name: 'w', arguments: '{"a":1}' } }],
  },
  { role: 'tool', tool_call_id: 'c1', content: '18' },
  { role: 'assistant', content: '18 degrees' },
  { role: 'user', content: 'Thanks' },
]));
test('parts that are not text are sent as parts', () => {
  const chat = newChat();
  const picture = { type: 'image_url', image_url: { url: 'data:image/png;base64,AA' } };
  chat.messages = [{ role: 'user', parts: [textPart('a'), picture] }];
  assert.deepEqual(wire(chat, ''), [{ role: 'user', content: [textPart('a'), picture] }]);
  assert.deepEqual(readChat(JSON.parse(JSON.stringify(chat))).messages, chat.messages);
});
test('titles', () => {
  assert.equal(titleOf(newChat()), 'New conversation');
  assert.equal(titleOf(sample()), 'Weather in Lima?');
  const chat = newChat();
  chat.messages = [{ role: 'user', parts: [textPart('x'.repeat(500))] }];
  assert.equal(titleOf(chat).length, 60);
});
test('kept, listed and deleted', () => {
  const store = new Store(new Memory());
  const a = { ...sample(), changed: 1 };
  const b = { ...sample(), changed: 2 };
  store.save(a);
  store.save(b);
  store.save(a);
  assert.deepEqual(store.all().map((c) => c.id), [b.id, a.id]);
  assert.deepEqual(store.load(a.id).messages, a.messages);
  store.remove(b.id);
  assert.deepEqual(store.all().map((c) => c.id), [a.id]);
  assert.equal(store.load(b.id), null);
});
test('a full store says so', () => assert.throws(() => new Store(new Memory(10)).save(sample()), /Quota/));
test('damaged entries are passed over', () => {
  const memory = new Memory();
  const store = new Store(memory);
  const chat = sample();
  store.save(chat);
  memory.setItem('slm.chats', JSON.stringify(['x', chat.id, 5, 'y']));
  memory.setItem('slm.chat.x', '{');
  memory.setItem('slm.chat.y', '{"messages":5}');
  assert.deepEqual(store.all().map((c) => c.id), [chat.id]);
  memory.setItem('slm.chats', 'nonsense');
  assert.deepEqual(store.all(), []);
});
test('export and import give the same', () => {
  const one = new Store(new Memory());
  one.save({ ...sample(), changed: 1 });
  one.save({ ...sample(), changed: 2 });
  const two = new Store(new Memory());
  assert.equal(two.import(one.exported()), 2);
  assert.deepEqual(two.all(), one.all());
  assert.equal(two.import(one.exported()), 2); // beside those that are there
  assert.equal(two.all().length, 4);
});
test('imports from elsewhere', () => {
  const [chat] = readExport(JSON.stringify({
    messages: [
      { role: 'system', content: 'left out' }, { role: 'user', content: 'hi' },
      { role: 'assistant', content: 'yes', reasoning_content: 'r', tool_calls: [{ id: 'c', function: { name: 'f', arguments: '{}' } }] },
      { role: 'user', content: [{ type: 'text', text: 'again' }] },
    ],
  }));
  assert.deepEqual(chat.messages.map((m) => m.role), ['user', 'assistant', 'user']);
  assert.equal(chat.messages[1].versions[0].reasoning, 'r');
  assert.equal(chat.messages[1].versions[0].calls[0].name, 'f');
});
test('what an import refuses', () => {
  for (const [text, why] of [['', /not JSON/], ['{', /not JSON/], ['5', /no conversation/], ['[]', /no conversation/], ['null', /no conversation/],
    ['{"chats":[{"messages":[]}]}', /no conversation/], ['{"chats":[{"messages":[5,null,{"role":"x"},{"role":"assistant","versions":[]}]}]}', /no conversation/]]) {
    assert.throws(() => readExport(text), why);
  }
});
test('whatever is imported can be sent and kept', () => {
  const wrong = [null, 5, 'x', [], {}, { text: 5 }, [{ type: 'text' }], [{ type: 5 }], [null], true];
  for (const v of wrong) {
    const chat = readChat({
      id: v, title: v, created: v, changed: v,
      messages: [v, { role: 'user', parts: v }, { role: 'user', content: v }, { role: 'tool', call: v, name: v, parts: v },
        { role: 'assistant', versions: v, shown: v }, { role: 'assistant', parts: v, calls: v, reasoning: v, receipt: v, error: v },
        { role: 'assistant', versions: [v, { calls: [v, { name: v, id: v, arguments: v }] }], shown: 9 }],
    });
    assert.match(chat.id, /^[a-z0-9]{1,40}$/);
    assert.ok(Array.isArray(wire(chat, '')));
    new Store(new Memory()).save(chat);
    JSON.stringify(chat);
  }
});
test('models of any server', () => {
  assert.deepEqual([modelOf({ id: 'a' }).think, modelOf({ id: 'a', capabilities: { thinking: true } }).think], ['', 'always']);
  assert.equal(modelOf({ id: 'a' }, { size: 5 }).memoryBytes, 5);
  assert.equal(modelOf({ id: 'a' }).context, 0);
  assert.equal(modelOf({ id: 'a', meta: { n_ctx: 4096 } }).context, 4096);
  assert.equal(modelOf({ id: 5, meta: null, capabilities: null, status: null }).id, '5');
  assert.equal(modelOf({ id: 'a', status: { value: 'loaded' } }).loaded, true);
});
