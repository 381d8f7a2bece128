// anthropic.mjs - Anthropic's own client against the server: messages, streams, tools, thinking, errors.
import Anthropic from '@anthropic-ai/sdk';
import { assert, check, idle, key, keyed, model, overlong, question, sunny, url, weather } from './tap.mjs';

const client = new Anthropic({ baseURL: url, apiKey: 'unused', maxRetries: 0 });
const ask = (content, more = {}) => ({ model, max_tokens: 600, temperature: 0, messages: [{ role: 'user', content }], ...more });
const tools = [{ name: weather.name, description: weather.description, input_schema: weather.parameters }];
const text = (m) => m.content.filter((b) => b.type === 'text').map((b) => b.text).join('');

check('messages: an answer with its usage', async () => {
  const m = await client.messages.create(ask('What is the capital of Peru?'));
  assert.equal(text(m), 'The capital of Peru is Lima.');
  assert.equal(m.stop_reason, 'end_turn');
  assert.ok(m.usage.input_tokens + m.usage.cache_read_input_tokens > 0 && m.usage.output_tokens > 0);
});

check('messages: streamed equals whole', async () => {
  const whole = await client.messages.create(ask('What is 47 * 36?'));
  const stream = client.messages.stream(ask('What is 47 * 36?'));
  let said = '', thought = '';
  stream.on('text', (t) => { said += t; });
  stream.on('thinking', (t) => { thought += t; });
  const m = await stream.finalMessage();
  assert.equal(said, '1692');
  assert.equal(text(m), text(whole));
  assert.equal(m.content[0].type, 'thinking');
  assert.equal(m.content[0].thinking, thought);
  assert.equal(m.content[0].signature, whole.content[0].signature);
  assert.equal(m.usage.output_tokens, whole.usage.output_tokens);
});

check('messages: tool use round trip, streamed', async () => {
  const first = await client.messages.stream(ask(question, { tools })).finalMessage();
  assert.equal(first.stop_reason, 'tool_use');
  const use = first.content.find((b) => b.type === 'tool_use');
  assert.deepEqual(use.input, { city: 'Berlin' });
  const second = await client.messages.create(ask(question, {
    tools,
    messages: [
      { role: 'user', content: question },
      { role: 'assistant', content: first.content },
      { role: 'user', content: [{ type: 'tool_result', tool_use_id: use.id, content: JSON.stringify(sunny) }] },
    ],
  }));
  assert.equal(text(second), 'It is 21 degrees and sunny in Berlin.');
});

check('messages: tool_choice forces a tool', async () => {
  const m = await client.messages.create(ask('Hello', { tools, tool_choice: { type: 'tool', name: 'get_weather' } }));
  assert.equal(m.content.at(-1).type, 'tool_use');
  assert.equal(m.content.at(-1).name, 'get_weather');
});

check('messages: the thinking budget closes the thinking', async () => {
  const free = await client.messages.create(ask('What is 4587 + 968?', { thinking: { type: 'enabled', budget_tokens: 400 } }));
  const bound = await client.messages.create(ask('What is 4587 + 968?', { thinking: { type: 'enabled', budget_tokens: 12 } }));
  assert.equal(text(free), '5555');
  assert.equal(bound.content[0].type, 'thinking');
  assert.ok(bound.content[0].thinking.length < free.content[0].thinking.length / 2);
  assert.ok(free.content[0].thinking.startsWith(bound.content[0].thinking.trim()));
  assert.ok(text(bound).length > 0);
  const off = await client.messages.create(ask('What is the capital of Peru?', { thinking: { type: 'disabled' } }));
  assert.deepEqual(off.content.map((b) => b.type), ['text']);
});

check('messages: system blocks with cache_control, and a prompt that was seen before', async () => {
  const system = [{ type: 'text', text: 'You are a helpful assistant.', cache_control: { type: 'ephemeral' } }];
  await client.messages.create(ask('What is the capital of Peru?', { system }));
  const billed = [{ type: 'text', text: 'x-anthropic-billing-header: cc_version=2; cch=00f1' }, ...system];
  const m = await client.messages.create(ask('What is the capital of Peru?', { system: billed }));
  assert.match(text(m), /Lima/);
  assert.ok(m.usage.cache_read_input_tokens > m.usage.input_tokens);
});

check('messages: stop_sequences say which one', async () => {
  const m = await client.messages.create(ask('What is the capital of Peru?', { stop_sequences: ['zzz', ' is'] }));
  assert.equal(m.stop_reason, 'stop_sequence');
  assert.equal(m.stop_sequence, ' is');
  assert.equal(text(m), 'The capital of Peru');
});

check('messages: max_tokens cuts', async () => {
  const m = await client.messages.create(ask('What is 47 * 36?', { max_tokens: 3 }));
  assert.equal(m.stop_reason, 'max_tokens');
  assert.equal(m.usage.output_tokens, 3);
});

check('countTokens says what the message will cost', async () => {
  const { input_tokens: n } = await client.messages.countTokens({
    model, messages: [{ role: 'user', content: question }], tools,
  });
  const m = await client.messages.create(ask(question, { tools, max_tokens: 1 }));
  assert.equal(n, m.usage.input_tokens + m.usage.cache_read_input_tokens);
});

check('models.list', async () => {
  const list = await client.models.list();
  assert.ok(list.data.some((m) => m.id === model && m.type === 'model' && m.display_name));
});

check('errors: unknown model, overlong prompt, wrong key', async () => {
  await assert.rejects(client.messages.create(ask('Hi', { model: 'no-such-model' })),
    (e) => e instanceof Anthropic.NotFoundError && e.error.error.type === 'not_found_error');
  await assert.rejects(client.messages.create(ask(overlong)),
    (e) => e instanceof Anthropic.BadRequestError && /1,?024/.test(e.message));
  const wrong = new Anthropic({ baseURL: keyed, apiKey: 'wrong', maxRetries: 0 });
  await assert.rejects(wrong.messages.create(ask('Hi')), Anthropic.AuthenticationError);
  const right = new Anthropic({ baseURL: keyed, apiKey: key, maxRetries: 0 });
  assert.match(text(await right.messages.create(ask('What is the capital of Peru?'))), /Lima/);
});

check('abort: a stream that is left frees its place', async () => {
  const stream = client.messages.stream(ask('What is 4587 + 968?'));
  await new Promise((done) => stream.once('streamEvent', done));
  stream.abort();
  await assert.rejects(stream.finalMessage(), Anthropic.APIUserAbortError);
  await idle(url);
});
