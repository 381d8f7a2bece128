// openai.mjs - OpenAI's own client against the server: chat, responses, completions, embeddings, errors.
import OpenAI from 'openai';
import { zodResponseFormat, zodTextFormat } from 'openai/helpers/zod';
import { z } from 'zod';
import { assert, check, idle, key, keyed, model, narrow, overlong, question, sunny, url, weather } from './tap.mjs';

const client = new OpenAI({ baseURL: url + '/v1', apiKey: 'unused', maxRetries: 0 });
const ask = (content, more = {}) => ({ model, temperature: 0, messages: [{ role: 'user', content }], ...more });
const tools = [{ type: 'function', function: weather }];

check('models.list and retrieve', async () => {
  const list = await client.models.list();
  assert.ok(list.data.some((m) => m.id === model && m.object === 'model'));
  const one = await client.models.retrieve(model);
  assert.equal(one.id, model);
  assert.equal(one.meta.n_ctx_train, 1024);
});

check('chat: an answer with its usage', async () => {
  const r = await client.chat.completions.create(ask('What is the capital of Peru?'));
  assert.equal(r.choices[0].message.content, 'The capital of Peru is Lima.');
  assert.equal(r.choices[0].finish_reason, 'stop');
  assert.equal(r.usage.total_tokens, r.usage.prompt_tokens + r.usage.completion_tokens);
  assert.ok(r.usage.completion_tokens_details.reasoning_tokens > 0);
  assert.match(r.system_fingerprint, /^fp_/);
});

check('chat: streamed equals whole, ids stay the same', async () => {
  const whole = await client.chat.completions.create(ask('What is 47 * 36?'));
  const stream = await client.chat.completions.create(
    ask('What is 47 * 36?', { stream: true, stream_options: { include_usage: true } }),
  );
  const ids = new Set();
  let content = '', reasoning = '', usage = null, finish = null;
  for await (const piece of stream) {
    ids.add(piece.id);
    content += piece.choices[0]?.delta.content ?? '';
    reasoning += piece.choices[0]?.delta.reasoning_content ?? '';
    finish = piece.choices[0]?.finish_reason ?? finish;
    usage = piece.usage ?? usage;
  }
  assert.equal(content, whole.choices[0].message.content);
  assert.equal(content, '1692');
  assert.equal(reasoning, whole.choices[0].message.reasoning_content);
  assert.equal(finish, 'stop');
  assert.equal(ids.size, 1);
  assert.equal(usage.completion_tokens, whole.usage.completion_tokens);
  assert.ok(usage.prompt_tokens_details.cached_tokens > 0);
});

check('chat: tools round trip by runTools', async () => {
  const asked = [];
  const runner = client.chat.completions.runTools(
    ask(question, {
      tools: [{
        type: 'function',
        function: { ...weather, parse: JSON.parse, function: (v) => { asked.push(v); return JSON.stringify(sunny); } },
      }],
    }),
  );
  assert.equal(await runner.finalContent(), 'It is 21 degrees and sunny in Berlin.');
  assert.deepEqual(asked, [{ city: 'Berlin' }]);
});

check('chat: a streamed call is put together by the client', async () => {
  const runner = client.chat.completions.stream(ask(question, { tools }));
  const seen = [];
  runner.on('tool_calls.function.arguments.done', (v) => seen.push([v.index, v.name, v.arguments]));
  const r = await runner.finalChatCompletion();
  assert.equal(r.choices[0].finish_reason, 'tool_calls');
  assert.equal(r.choices[0].message.tool_calls[0].type, 'function');
  assert.match(r.choices[0].message.tool_calls[0].id, /^call_\w+$/);
  assert.deepEqual(JSON.parse(r.choices[0].message.tool_calls[0].function.arguments), { city: 'Berlin' });
  assert.equal(seen[0][1], 'get_weather');
});

check('chat: tool_choice names a function and forces it', async () => {
  const r = await client.chat.completions.create(
    ask('Hello', { tools, tool_choice: { type: 'function', function: { name: 'get_weather' } }, max_tokens: 200 }),
  );
  assert.equal(r.choices[0].message.tool_calls[0].function.name, 'get_weather');
  assert.equal(typeof JSON.parse(r.choices[0].message.tool_calls[0].function.arguments).city, 'string');
});

check('chat: tool_choice none calls nothing', async () => {
  const r = await client.chat.completions.create(ask(question, { tools, tool_choice: 'none' }));
  assert.equal(r.choices[0].message.tool_calls, undefined);
});

check('chat: parse with a zod schema, after thinking', async () => {
  const Record = z.object({ name: z.string(), date: z.string(), amount: z.number() });
  const r = await client.chat.completions.parse(
    ask('Extract name, date, amount as JSON: Anna paid 120 euros on May 5.', {
      response_format: zodResponseFormat(Record, 'record'), max_tokens: 300,
    }),
  );
  const found = r.choices[0].message.parsed;
  assert.equal(typeof found.amount, 'number');
  assert.deepEqual(Object.keys(found).sort(), ['amount', 'date', 'name']);
});

check('chat: thinking on and off', async () => {
  const off = await client.chat.completions.create(ask('What is 47 * 36?', { reasoning_effort: 'none' }));
  const on = await client.chat.completions.create(ask('What is 47 * 36?', { reasoning_effort: 'high' }));
  assert.equal(off.choices[0].message.reasoning_content, undefined);
  assert.equal(on.choices[0].message.content, '1692');
  const template = await client.chat.completions.create(
    ask('What is 47 * 36?', { chat_template_kwargs: { enable_thinking: false } }),
  );
  assert.equal(template.choices[0].message.content, off.choices[0].message.content);
});

check('chat: logprobs whose bytes are the answer', async () => {
  const r = await client.chat.completions.create(ask('What is the capital of Peru?', { logprobs: true, top_logprobs: 3 }));
  const tokens = r.choices[0].logprobs.content;
  assert.equal(Buffer.from(tokens.flatMap((t) => t.bytes)).toString(), r.choices[0].message.content);
  for (const t of tokens) {
    assert.equal(t.top_logprobs.length, 3);
    assert.ok(t.logprob <= 0 && t.top_logprobs[0].logprob >= t.logprob);
  }
});

check('chat: n, seed, stop, max_tokens, logit_bias', async () => {
  const two = await client.chat.completions.create(
    ask('Say hello.', { n: 2, seed: 7, temperature: 1.5, max_completion_tokens: 30 }),
  );
  assert.deepEqual(two.choices.map((c) => c.index), [0, 1]);
  const again = await client.chat.completions.create(
    ask('Say hello.', { n: 2, seed: 7, temperature: 1.5, max_completion_tokens: 30 }),
  );
  assert.deepEqual(again.choices.map((c) => c.message.content), two.choices.map((c) => c.message.content));
  const cut = await client.chat.completions.create(ask('What is the capital of Peru?', { stop: [' is'] }));
  assert.equal(cut.choices[0].message.content, 'The capital of Peru');
  const short = await client.chat.completions.create(ask('What is 47 * 36?', { max_tokens: 3 }));
  assert.equal(short.choices[0].finish_reason, 'length');
  assert.equal(short.usage.completion_tokens, 3);
  const { tokens } = await (await fetch(url + '/tokenize', {
    method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ content: 'L' }),
  })).json();
  const biased = await client.chat.completions.create(
    ask('What is the capital of Peru?', { reasoning_effort: 'none', logit_bias: { [tokens[0]]: 100 }, max_tokens: 4 }),
  );
  assert.equal(biased.choices[0].message.content, 'LLLL');
});

check('chat: content parts, developer role, unknown fields in a header', async () => {
  const { data, response } = await client.chat.completions.create({
    model, temperature: 0, frobnicate: 1, user: 'somebody',
    messages: [
      { role: 'developer', content: [{ type: 'text', text: 'You are a helpful assistant.' }] },
      { role: 'user', content: [{ type: 'text', text: 'What is the capital ' }, { type: 'text', text: 'of Peru?' }] },
    ],
  }).withResponse();
  assert.match(data.choices[0].message.content, /Lima/);
  assert.match(response.headers.get('x-slm-warning'), /frobnicate/);
  assert.match(response.headers.get('x-slm-warning'), /user/);
});

check('responses: an answer and a conversation', async () => {
  const r = await client.responses.create({
    model, temperature: 0, store: false, instructions: 'You are a helpful assistant.', input: 'What is the capital of Peru?',
  });
  assert.match(r.output_text, /Lima/);
  assert.equal(r.status, 'completed');
  assert.equal(r.output.at(-1).type, 'message');
  assert.ok(r.usage.output_tokens > 0);
});

check('responses: streamed events make the final response', async () => {
  const stream = client.responses.stream({ model, temperature: 0, input: 'What is 47 * 36?' });
  const kinds = [];
  let text = '';
  for await (const e of stream) {
    assert.equal(e.sequence_number, kinds.length);
    kinds.push(e.type);
    if (e.type === 'response.output_text.delta') text += e.delta;
  }
  const r = await stream.finalResponse();
  assert.equal(kinds[0], 'response.created');
  assert.equal(kinds.at(-1), 'response.completed');
  assert.equal(text, '1692');
  assert.equal(r.output_text, text);
  assert.equal(r.output[0].type, 'reasoning');
});

check('responses: tools round trip', async () => {
  const flat = [{ type: 'function', ...weather, strict: false }, { type: 'web_search' }];
  const input = [{ role: 'user', content: question }];
  const { data: first, response } = await client.responses
    .create({ model, temperature: 0, tools: flat, input }).withResponse();
  assert.match(response.headers.get('x-slm-warning'), /web_search/);
  const call = first.output.find((o) => o.type === 'function_call');
  assert.deepEqual(JSON.parse(call.arguments), { city: 'Berlin' });
  input.push(...first.output, { type: 'function_call_output', call_id: call.call_id, output: JSON.stringify(sunny) });
  const second = await client.responses.create({ model, temperature: 0, tools: flat, input });
  assert.equal(second.output_text, 'It is 21 degrees and sunny in Berlin.');
});

check('responses: parse with a zod schema', async () => {
  const r = await client.responses.parse({
    model, temperature: 0, input: 'Make a JSON object: name is Anna, age is 30', max_output_tokens: 300,
    text: { format: zodTextFormat(z.object({ name: z.string(), age: z.number() }), 'person') },
  });
  assert.equal(typeof r.output_parsed.age, 'number');
});

check('responses: an earlier answer is an error that says what to do', async () => {
  await assert.rejects(client.responses.create({ model, input: 'Hi', previous_response_id: 'resp_1' }),
    (e) => e.status === 400 && e.param === 'previous_response_id');
});

check('completions: echo and log-probabilities', async () => {
  const r = await client.completions.create({
    model, prompt: 'The capital of Peru is', max_tokens: 2, temperature: 0, echo: true, logprobs: 2,
  });
  const l = r.choices[0].logprobs;
  assert.equal(l.token_logprobs[0], null);
  assert.equal(l.tokens.length, l.token_logprobs.length);
  assert.equal(l.tokens.join(''), r.choices[0].text);
  assert.ok(r.choices[0].text.startsWith('The capital of Peru is'));
});

check('embeddings: base64 by default, the same numbers as floats, length 1', async () => {
  const packed = await client.embeddings.create({ model, input: ['hello', 'a red house'] });
  const plain = await client.embeddings.create({ model, input: ['hello', 'a red house'], encoding_format: 'float' });
  assert.equal(packed.data.length, 2);
  for (let i = 0; i < 2; i++) {
    assert.equal(packed.data[i].embedding.length, 256);
    packed.data[i].embedding.forEach((v, k) => assert.equal(Math.fround(plain.data[i].embedding[k]), v));
    const length = Math.hypot(...plain.data[i].embedding);
    assert.ok(Math.abs(length - 1) < 1e-5);
  }
});

check('errors: an unknown model is NotFoundError', async () => {
  await assert.rejects(client.chat.completions.create({ ...ask('Hi'), model: 'no-such-model' }),
    (e) => e instanceof OpenAI.NotFoundError && e.code === 'model_not_found');
});

check('errors: a prompt that is too long names both numbers', async () => {
  await assert.rejects(client.chat.completions.create(ask(overlong)),
    (e) => e instanceof OpenAI.BadRequestError && e.code === 'context_length_exceeded' &&
      e.error.n_ctx === 1024 && e.error.n_prompt_tokens > 1024 && e.message.includes(String(e.error.n_prompt_tokens)));
});

check('errors: a number out of range names the field', async () => {
  await assert.rejects(client.chat.completions.create(ask('Hi', { top_p: 7 })),
    (e) => e instanceof OpenAI.BadRequestError && e.param === 'top_p');
});

check('errors: no key and a wrong key are AuthenticationError', async () => {
  const without = new OpenAI({ baseURL: keyed + '/v1', apiKey: 'wrong', maxRetries: 0 });
  await assert.rejects(without.chat.completions.create(ask('Hi')), OpenAI.AuthenticationError);
  const right = new OpenAI({ baseURL: keyed + '/v1', apiKey: key, maxRetries: 0 });
  assert.match((await right.chat.completions.create(ask('What is the capital of Peru?'))).choices[0].message.content, /Lima/);
});

check('retries: what is turned away with 429 comes again until it is answered', async () => {
  let refused = 0;
  const eager = new OpenAI({
    baseURL: narrow + '/v1', apiKey: 'unused', maxRetries: 20,
    fetch: async (...a) => {
      const r = await fetch(...a);
      if (r.status === 429) {
        refused++;
        assert.ok(Number(r.headers.get('retry-after-ms')) > 0);
      }
      return r;
    },
  });
  const all = await Promise.all(Array.from({ length: 6 }, () =>
    eager.completions.create({ model, prompt: 'One two three', max_tokens: 300, temperature: 0, ignore_eos: true })));
  assert.equal(new Set(all.map((r) => r.choices[0].text)).size, 1);
  assert.ok(refused > 0, 'some were refused');
});

check('abort: a stream that is left frees its place', async () => {
  const stream = await client.completions.create(
    { model, prompt: 'One two three', max_tokens: 900, temperature: 0, ignore_eos: true, stream: true });
  let pieces = 0;
  for await (const piece of stream) {
    assert.equal(piece.object, 'text_completion');
    if (++pieces === 3) break; // aborts the request
  }
  await idle(url);
});
