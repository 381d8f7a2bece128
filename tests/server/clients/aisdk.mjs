// aisdk.mjs - Vercel's AI SDK with its provider for compatible servers.
import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { APICallError, embedMany, generateObject, generateText, jsonSchema, stepCountIs, streamText, tool } from 'ai';
import { z } from 'zod';
import { assert, check, idle, model, overlong, question, sunny, url, weather } from './tap.mjs';

const provider = createOpenAICompatible({
  name: 'slm', baseURL: url + '/v1', includeUsage: true, supportsStructuredOutputs: true,
});
const chat = provider(model);
const base = { model: chat, temperature: 0, maxRetries: 0 };
const tools = {
  get_weather: tool({
    description: weather.description,
    inputSchema: jsonSchema(weather.parameters), // as the model knows it: no $schema
    execute: async () => sunny,
  }),
};

check('generateText: text, reasoning, usage', async () => {
  const r = await generateText({ ...base, prompt: 'What is 47 * 36?' });
  assert.equal(r.text, '1692');
  assert.ok(r.reasoningText.length > 0);
  assert.equal(r.finishReason, 'stop');
  assert.ok(r.usage.outputTokens > 0 && r.usage.reasoningTokens > 0);
});

check('streamText: pieces make the text', async () => {
  const r = streamText({ ...base, prompt: 'What is the capital of Peru?' });
  let text = '';
  for await (const piece of r.textStream) text += piece;
  assert.equal(text, 'The capital of Peru is Lima.');
  assert.ok((await r.usage).outputTokens > 0);
  assert.ok((await r.reasoningText).length > 0);
});

check('generateText: a tool is called and its result is said', async () => {
  const r = await generateText({ ...base, prompt: question, tools, stopWhen: stepCountIs(3) });
  assert.equal(r.steps.length, 2);
  assert.deepEqual(r.steps[0].toolCalls.map((c) => [c.toolName, c.input]), [['get_weather', { city: 'Berlin' }]]);
  assert.equal(r.text, 'It is 21 degrees and sunny in Berlin.');
});

check('streamText: the same, streamed', async () => {
  const r = streamText({ ...base, prompt: question, tools, stopWhen: stepCountIs(3) });
  let text = '';
  for await (const piece of r.textStream) text += piece;
  assert.equal(text, 'It is 21 degrees and sunny in Berlin.');
});

check('generateObject: a zod schema', async () => {
  const r = await generateObject({
    ...base, maxOutputTokens: 300, schema: z.object({ name: z.string(), age: z.number() }),
    prompt: 'Make a JSON object: name is Anna, age is 30',
  });
  assert.equal(typeof r.object.age, 'number');
});

check('embedMany', async () => {
  const r = await embedMany({ model: provider.embeddingModel(model), values: ['hello', 'a red house'], maxRetries: 0 });
  assert.deepEqual(r.embeddings.map((e) => e.length), [256, 256]);
});

check('errors are APICallError with the status', async () => {
  await assert.rejects(generateText({ ...base, prompt: overlong }),
    (e) => APICallError.isInstance(e) && e.statusCode === 400 && !e.isRetryable);
  await assert.rejects(generateText({ ...base, model: provider('no-such-model'), prompt: 'Hi' }),
    (e) => APICallError.isInstance(e) && e.statusCode === 404);
});

check('abort: a stream that is left frees its place', async () => {
  const stop = new AbortController();
  const r = streamText({ ...base, prompt: 'What is 4587 + 968?', abortSignal: stop.signal, onError() {} });
  for await (const piece of r.fullStream) {
    if (piece.type === 'reasoning-delta') stop.abort();
  }
  await idle(url);
});
