// ollama.mjs - Ollama's own client against the server.
import { Ollama } from 'ollama';
import { assert, check, idle, model, overlong, question, sunny, url, weather } from './tap.mjs';

const client = new Ollama({ host: url });
const options = { temperature: 0 };
const ask = (content, more = {}) => ({ model, options, messages: [{ role: 'user', content }], ...more });
const tools = [{ type: 'function', function: weather }];

check('list, show, ps, version', async () => {
  assert.ok((await client.list()).models.some((m) => m.name === model && m.size > 0 && m.digest));
  const shown = await client.show({ model });
  assert.ok(shown.capabilities.includes('tools') && shown.capabilities.includes('thinking'));
  assert.equal(shown.model_info['qwen3.context_length'], 1024);
  assert.match(shown.template, /im_start/);
  assert.ok((await client.ps()).models.some((m) => m.name === model && m.context_length === 1024));
  assert.match((await client.version()).version, /^\d+\.\d+\.\d+$/);
});

check('chat: an answer with durations', async () => {
  const r = await client.chat(ask('What is the capital of Peru?'));
  assert.equal(r.message.content, 'The capital of Peru is Lima.');
  assert.ok(r.message.thinking.length > 0);
  assert.ok(r.done && r.done_reason === 'stop' && r.total_duration > 0 && r.eval_count > 0 && r.prompt_eval_count > 0);
});

check('chat: streamed equals whole, thinking apart', async () => {
  const whole = await client.chat(ask('What is 47 * 36?'));
  let content = '', thinking = '', last;
  for await (const piece of await client.chat(ask('What is 47 * 36?', { stream: true }))) {
    content += piece.message.content;
    thinking += piece.message.thinking ?? '';
    last = piece;
  }
  assert.equal(content, '1692');
  assert.equal(content, whole.message.content);
  assert.equal(thinking, whole.message.thinking);
  assert.ok(last.done && last.eval_count === whole.eval_count);
});

check('chat: think on, off, as a level', async () => {
  const off = await client.chat(ask('What is the capital of Peru?', { think: false }));
  assert.equal(off.message.thinking, undefined);
  const level = await client.chat(ask('What is 47 * 36?', { think: 'high' }));
  assert.equal(level.message.content, '1692');
});

check('chat: tools round trip, arguments are objects', async () => {
  const first = await client.chat(ask(question, { tools }));
  const [call] = first.message.tool_calls;
  assert.equal(call.function.name, 'get_weather');
  assert.deepEqual(call.function.arguments, { city: 'Berlin' });
  const second = await client.chat(ask('', {
    tools,
    messages: [
      { role: 'user', content: question }, first.message,
      { role: 'tool', tool_name: 'get_weather', content: JSON.stringify(sunny) },
    ],
  }));
  assert.equal(second.message.content, 'It is 21 degrees and sunny in Berlin.');
});

check('chat: a streamed call', async () => {
  const calls = [];
  for await (const piece of await client.chat(ask(question, { tools, stream: true })))
    calls.push(...(piece.message.tool_calls ?? []));
  assert.deepEqual(calls.map((c) => c.function.arguments), [{ city: 'Berlin' }]);
});

check('chat: format json and format by schema', async () => {
  const json = await client.chat(ask('Make a JSON object: name is Anna, age is 30', { format: 'json', options: { temperature: 0, num_predict: 300 } }));
  assert.equal(typeof JSON.parse(json.message.content), 'object');
  const schema = { type: 'object', properties: { name: { type: 'string' }, age: { type: 'integer' } }, required: ['name', 'age'], additionalProperties: false };
  const typed = await client.chat(ask('Make a JSON object: name is Anna, age is 30', { format: schema, options: { temperature: 0, num_predict: 300 } }));
  assert.ok(Number.isInteger(JSON.parse(typed.message.content).age));
});

check('generate: with template, raw, streamed', async () => {
  const r = await client.generate({ model, prompt: 'What is the capital of Peru?', options });
  assert.equal(r.response, 'The capital of Peru is Lima.');
  const raw = await client.generate({ model, prompt: 'The capital of Peru is', raw: true, options: { temperature: 0, num_predict: 3 } });
  assert.ok(raw.response.length > 0 && raw.eval_count <= 3);
  let text = '';
  for await (const piece of await client.generate({ model, prompt: 'What is the capital of Peru?', stream: true, options }))
    text += piece.response;
  assert.equal(text, r.response);
});

check('generate: without a prompt the model is loaded', async () => {
  const r = await client.generate({ model, prompt: '' });
  assert.ok(r.done && r.done_reason === 'load');
});

check('options: stop, num_predict, num_ctx, seed', async () => {
  const stop = await client.chat(ask('What is the capital of Peru?', { options: { temperature: 0, stop: [' is'] } }));
  assert.equal(stop.message.content, 'The capital of Peru');
  const cut = await client.chat(ask('What is 47 * 36?', { options: { temperature: 0, num_predict: 3 } }));
  assert.ok(cut.done_reason === 'length' && cut.eval_count === 3);
  await assert.rejects(client.chat(ask('one two three '.repeat(40), { options: { num_ctx: 32 } })), /32/);
  const sampled = () => client.chat(ask('Say hello.', { options: { temperature: 1.5, seed: 11 } }));
  assert.equal((await sampled()).message.content, (await sampled()).message.content);
});

check('embed: one, several; embeddings', async () => {
  const one = await client.embed({ model, input: 'hello' });
  const two = await client.embed({ model, input: ['hello', 'a red house'] });
  assert.deepEqual(one.embeddings[0], two.embeddings[0]);
  assert.equal(two.embeddings.length, 2);
  const old = await client.embeddings({ model, prompt: 'hello' });
  const length = Math.hypot(...old.embedding);
  old.embedding.forEach((v, i) => assert.ok(Math.abs(v / length - one.embeddings[0][i]) < 1e-6));
});

check('errors: unknown model, overlong prompt, pull', async () => {
  await assert.rejects(client.chat({ ...ask('Hi'), model: 'no-such-model' }), (e) => e.status_code === 404);
  await assert.rejects(client.chat(ask(overlong)), (e) => e.status_code === 400 && /1,?024/.test(e.message));
  await assert.rejects(client.pull({ model: 'qwen3:0.6b' }), /slm pull/);
});

check('abort: a stream that is left frees its place', async () => {
  const stream = await client.chat(ask('What is 4587 + 968?', { stream: true }));
  setTimeout(() => stream.abort(), 5);
  await assert.rejects(async () => { for await (const piece of stream) void piece; await idle(url); throw new DOMException('done', 'AbortError'); }, /abort|done/i);
  await idle(url);
});
