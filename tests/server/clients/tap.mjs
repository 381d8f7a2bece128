// tap.mjs - results of one client's checks, a line of JSON each; check_clients.py makes TAP of them.
import assert from 'node:assert/strict';

export { assert };
export const url = process.env.SLM_URL; // no keys
export const keyed = process.env.SLM_URL_KEYED; // key: see key
export const narrow = process.env.SLM_URL_NARROW; // one place, one that may wait
export const key = process.env.SLM_KEY;
export const model = 'demo';

export const weather = {
  name: 'get_weather',
  description: 'Get the current weather for a city',
  parameters: {
    type: 'object',
    properties: { city: { type: 'string', description: 'City name' } },
    required: ['city'],
  },
};
export const question = 'What is the weather in Berlin?';
export const sunny = { temperature: 21, condition: 'sunny' };

let ran = Promise.resolve();

// check(NAME, FUNCTION): passes when the function does not throw; one after the other
export function check(name, work) {
  ran = ran.then(async () => {
    const timer = setTimeout(() => {
      console.log(JSON.stringify({ name, ok: false, why: 'took longer than 60 s' }));
      process.exit(1);
    }, 60000);
    try {
      await work();
      console.log(JSON.stringify({ name, ok: true }));
    } catch (e) {
      console.log(JSON.stringify({ name, ok: false, why: String(e?.stack ?? e) }));
    }
    clearTimeout(timer);
  });
}

// The server has nothing to do any more: what was aborted is gone.
export async function idle(base) {
  for (let i = 0; i < 300; i++) {
    const text = await (await fetch(base + '/metrics')).text();
    const busy = [...text.matchAll(/^slm_num_requests_(?:running|waiting)\S* (\d+)$/gm)];
    assert.ok(busy.length >= 2, 'metrics tell what runs');
    if (busy.every((m) => m[1] === '0')) return;
    await new Promise((done) => setTimeout(done, 20));
  }
  throw new Error('still busy');
}

// A prompt that has more tokens than the model's context.
export const overlong = 'one two three '.repeat(700);
