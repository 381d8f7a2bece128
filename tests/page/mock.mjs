/* mock.mjs - a server in the place of `slm serve` for tests of the page: the page's files as they are
 * in the tree with the headers that page.c gives them, and the two calls that the page makes. What it
 * answers is told by the last user message ("mock:think" and so on), so that a test reads like one. */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import http from 'node:http';

const FILES = new URL('../../src/server/page/', import.meta.url);
const TYPES = {
  css: 'text/css; charset=utf-8', js: 'text/javascript; charset=utf-8', svg: 'image/svg+xml', html: 'text/html; charset=utf-8',
};

/* [[name, value]] of page_headers in page.c. */
export function pageHeaders() {
  const source = readFileSync(new URL('../../src/server/page.c', import.meta.url), 'utf8');
  const table = /page_headers\[\] = \{(.*?)\{ NULL/s.exec(source)[1];
  return [...table.matchAll(/\{\s*"([^"]+)",\s*((?:"[^"]*"\s*)+)\}/g)].map(([, name, value]) =>
    [name, [...value.matchAll(/"([^"]*)"/g)].map((m) => m[1]).join('')]);
}

export const XSS = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>';

const model = (id, title, meta, state, capabilities) => ({
  id, object: 'model', created: 1, owned_by: 'the slm project', type: 'model', display_name: title, meta,
  architecture: { input_modalities: ['text'], output_modalities: ['text'] }, capabilities, status: { value: state },
});
const MODELS = [
  model('demo', 'slm demo', { n_ctx: 2048, n_ctx_train: 4096, n_params: 4984832, size: 9976944, quantization: null }, 'loaded',
    { tools: true, thinking: true, thinking_switch: true }),
  model('qwen3-0.6b', 'Qwen3 0.6B', { n_ctx_train: 40960, n_params: 596049920, size: 639446688, quantization: 'q8_0' }, 'unloaded',
    { tools: true, thinking: true, thinking_switch: true }),
  model('jan-v1-4b', 'Jan v1 4B', { n_ctx_train: 262144, n_params: 4022468096, size: 2497280608, quantization: 'q4_k_m' }, 'loading',
    { tools: true, thinking: true, thinking_switch: false }),
  model(`evil ${XSS}`, XSS, { quantization: XSS }, 'unloaded', { thinking: false, tools: false }),
];

export const LONG = `# Comparing three rivers

The **Amazon**, the *Nile* and the ~~Thames~~ Mekong differ in more than length. See https://example.org/rivers, or [the atlas](https://example.org/atlas).

1. Discharge decides what a river carries.
   - In the wet season it doubles.
   - In the dry season \`Q\` falls below 60 %.
2. Slope decides how fast.

| River | Length (km) | Discharge (m³/s) |
|:------|------------:|:----------------:|
| Amazon | 6,400 | 209,000 |
| Nile | 6,650 | 2,830 |
| Mekong | 4,350 | 16,000 |

> Nobody steps twice into the same river.

\`\`\`python
def discharge(area, speed):
    """Cubic metres per second."""
    return area * speed    # a long line that has to scroll sideways instead of widening the page, whatever the screen
\`\`\`

- [x] read
- [ ] measured

---

That is all there is to say.`;

const pieces = (text, n = 4) => text.match(new RegExp(`[^]{1,${n}}`, 'g')) || [];
const wait = (ms) => new Promise((done) => setTimeout(done, ms));

export class Mock {
  constructor(options = {}) {
    this.key = options.key || '';
    this.sees = options.sees || false; // the models read pictures
    this.requests = []; // bodies of chat completions
    this.closed = 0; // streams that the client left
    this.failNext = 0;
    this.pace = options.pace ?? 3; // ms between pieces
    this.hash = createHash('sha256').update(String(Date.now())).digest('hex').slice(0, 16);
    this.server = http.createServer((req, res) => this.handle(req, res).catch((e) => {
      if (e.message !== 'gone') {
        console.error('# mock:', e);
      }
      res.destroy();
    }));
  }

  listen() {
    return new Promise((done) => this.server.listen(0, '127.0.0.1', () => {
      this.port = this.server.address().port;
      this.url = `http://127.0.0.1:${this.port}/`;
      done(this);
    }));
  }

  close() {
    this.server.closeAllConnections();
    return new Promise((done) => this.server.close(done));
  }

  async handle(req, res) {
    const path = new URL(req.url, this.url).pathname;
    if (path === '/' || path.startsWith('/page/')) {
      return this.file(path, res);
    }
    if (this.key && req.headers.authorization !== `Bearer ${this.key}`) {
      return this.fail(res, 401, 'This server wants a key: Authorization: Bearer KEY', 'invalid_api_key');
    }
    if (path === '/v1/models') {
      const data = MODELS.map((row) => (this.sees ? { ...row, architecture: { input_modalities: ['text', 'image'] } } : row));
      return this.json(res, 200, { object: 'list', data });
    }
    if (path === '/api/ps') {
      return this.json(res, 200, { models: [{ name: 'demo', model: 'demo', size: 295558640 }] });
    }
    if (path === '/v1/chat/completions') {
      let text = '';
      for await (const piece of req) {
        text += piece;
      }
      const body = JSON.parse(text);
      this.requests.push(body);
      return this.chat(body, res);
    }
    return this.fail(res, 404, `There is no ${path}`, 'not_found');
  }

  file(path, res) {
    const name = path === '/' ? 'index.html' : path.split('/').pop();
    let data;
    try {
      data = readFileSync(new URL(name, FILES));
    } catch {
      return this.fail(res, 404, 'no such file', 'not_found');
    }
    pageHeaders().forEach(([key, value]) => res.setHeader(key, value));
    res.setHeader('content-type', TYPES[name.split('.').pop()]);
    return res.end(name === 'index.html' ? data.toString().replaceAll('page/0/', `page/${this.hash}/`) : data);
  }

  json(res, status, value, headers = {}) {
    res.writeHead(status, { 'content-type': 'application/json', ...headers });
    res.end(JSON.stringify(value));
  }

  fail(res, status, message, code, headers = {}) {
    this.json(res, status, { error: { message, type: 'invalid_request_error', code, param: null } }, headers);
  }

  async chat(body, res) {
    const content = body.messages.findLast((m) => m.role === 'user').content;
    const last = Array.isArray(content) ? content.map((part) => part.text || '').join('') : content;
    const said = /^mock:(\w+)/.exec(last)?.[1] || 'plain';
    const tool = body.messages[body.messages.length - 1].role === 'tool';
    if (said === 'overlong') {
      return this.fail(res, 400, `The prompt has 9212 tokens, the context 2048. ${XSS}`, 'context_length_exceeded');
    }
    if (said === 'busy') {
      return this.fail(res, 429, 'The queue is full: 64 requests wait.', 'server_overloaded', { 'retry-after': '3' });
    }
    if (said === 'html') {
      res.writeHead(502, { 'content-type': 'text/html' });
      return res.end(`<html>${XSS}</html>`);
    }
    res.on('close', () => {
      if (!res.writableFinished) {
        this.closed++;
      }
    });
    res.writeHead(200, {
      'content-type': 'text/event-stream', 'x-request-id': 'req_abc',
      ...(said === 'warning' && { 'x-slm-warning': 'ignored: timings_per_token' }),
    });
    const started = Date.now();
    const id = 'chatcmpl-1';
    let n = 0;
    const send = async (delta, finish = null, more = {}) => {
      if (res.destroyed) {
        throw new Error('gone');
      }
      n += delta.content || delta.reasoning_content ? 1 : 0;
      res.write(`data: ${JSON.stringify({
        id, object: 'chat.completion.chunk', created: 1732470000, model: body.model, system_fingerprint: 'fp_1f2e',
        choices: [{ index: 0, delta, finish_reason: finish }], ...more,
      })}\n\n`);
      await wait(this.pace);
    };
    await send({ role: 'assistant', content: '' });
    await this.script(said, tool, send, res, body);
    if (res.writableEnded || res.destroyed) {
      return undefined;
    }
    const ms = Date.now() - started;
    res.write(`data: ${JSON.stringify({
      id, object: 'chat.completion.chunk', created: 1732470000, model: body.model, choices: [],
      usage: { prompt_tokens: 120, completion_tokens: n, total_tokens: 120 + n, prompt_tokens_details: { cached_tokens: 90 } },
      timings: { cache_n: 90, prompt_n: 30, prompt_per_second: 512.5, predicted_n: n, predicted_per_second: n / (ms / 1000), queue_ms: 1.5 },
    })}\n\n`);
    return res.end('data: [DONE]\n\n');
  }

  async script(said, tool, send, res, body) {
    const text = async (s, n) => {
      for (const piece of pieces(s, n)) {
        await send({ content: piece });
      }
    };
    switch (tool ? 'result' : said) {
    case 'think':
      for (const piece of pieces('The user asks something. Let me think about it step by step.\nFirst, rivers. '.repeat(6), 6)) {
        await send({ reasoning_content: piece, reasoning: piece });
      }
      await text('Forty-two.');
      return send({}, 'stop');
    case 'tool':
      await text('Let me look. ');
      await send({ tool_calls: [{ index: 0, id: 'call_1', type: 'function', function: { name: 'get_weather', arguments: '' } }] });
      for (const piece of pieces('{"city":"Lima","units":{"temperature":"C"}}', 7)) {
        await send({ tool_calls: [{ index: 0, function: { arguments: piece } }] });
      }
      await send({ tool_calls: [{ index: 1, id: 'call_2', type: 'function', function: { name: 'get_time', arguments: '{}' } }] });
      return send({}, 'tool_calls');
    case 'result':
      await text(`It is ${body.messages.at(-1).content} there.`);
      return send({}, 'stop');
    case 'xss':
      await text(`${XSS} **${XSS}** [click](javascript:window.hacked=1) [data](data:text/html,x) ![pic](https://example.org/p.png)\n\n\`\`\`html\n${XSS}\n\`\`\`\n\n<https://example.org/"onmouseover="window.hacked=1">`, 3);
      return send({}, 'stop');
    case 'long':
      await text(LONG, 5);
      return send({}, 'stop');
    case 'endless':
      for (let i = 0; i < 5000; i++) {
        await send({ content: `word${i} ` });
      }
      return send({}, 'length');
    case 'progress':
      for (let i = 1; i <= 20; i++) {
        await send({}, null, { prompt_progress: { total: 8000, processed: i * 400 } });
        await wait(40);
      }
      await text('Read.');
      return send({}, 'stop');
    case 'cut':
      await text('This answer is cut');
      await wait(300); // what was sent has arrived; a connection that breaks takes the rest with it
      return res.destroy();
    case 'short':
      await text('This answer ends early');
      return res.end();
    case 'midway':
      await text('Half of ');
      res.write(`data: ${JSON.stringify({ error: { message: `The model failed. ${XSS}`, type: 'server_error', code: 'internal' } })}\n\n`);
      return res.end('data: [DONE]\n\n');
    case 'ping':
      res.write(': ping\n\n');
      await text('Still here.');
      return send({}, 'stop');
    default:
      await text(`Answer ${this.requests.length} of ${body.model}. It has **two** sentences.`);
      return send({}, 'stop');
    }
  }
}

if (process.argv[1] === new URL(import.meta.url).pathname) {
  const mock = await new Mock({ pace: 15 }).listen();
  console.log(mock.url);
}
