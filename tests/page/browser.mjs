/* browser.mjs - the page in Chromium against mock.mjs, and, with an address as argument, against a real
 * server with the demo model. Prints TAP. usage: node browser.mjs CHROMIUM [URL] */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { chromium } from 'playwright-core';
import { Mock, XSS } from './mock.mjs';

const [executablePath, realUrl] = process.argv.slice(2);
const browser = await chromium.launch({ executablePath, args: ['--no-sandbox', '--disable-dev-shm-usage'] });
let n = 0;
let failed = 0;

/* What no page may do, whatever else is tested. */
async function watched(context, url) {
  const trouble = [];
  const page = await context.newPage();
  page.setDefaultTimeout(15000);
  await page.addInitScript(() => {
    window.violations = [];
    document.addEventListener('securitypolicyviolation', (event) => window.violations.push(`${event.violatedDirective} ${event.blockedURI}`));
  });
  page.on('pageerror', (e) => trouble.push(`script: ${e}`));
  page.on('console', (m) => {
    if (m.type() === 'error' && !/Failed to load resource/.test(m.text())) {
      trouble.push(`console: ${m.text()}`);
    }
  });
  page.on('request', (request) => {
    if (!request.url().startsWith(url) && !request.url().startsWith('blob:')) {
      trouble.push(`asked for ${request.url()}`);
    }
  });
  page.on('dialog', (dialog) => {
    trouble.push(`dialog ${dialog.message()}`);
    dialog.dismiss();
  });
  return { page, trouble };
}

async function open(mock, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, locale: 'en-US', ...options });
  await context.grantPermissions(['clipboard-read', 'clipboard-write']).catch(() => {});
  const { page, trouble } = await watched(context, mock.url);
  await page.goto(mock.url);
  await page.waitForFunction(() => document.querySelector('#model option') || document.querySelector('dialog[open]'));
  return { page, trouble, context };
}

const only = process.env.ONLY ? new RegExp(process.env.ONLY) : null;

async function check(name, mockOptions, options, body) {
  if (only && !only.test(name)) {
    return;
  }
  n++;
  const mock = await new Mock(mockOptions).listen();
  let opened;
  try {
    opened = await open(mock, options);
    await body(opened.page, mock, opened);
    assert.deepEqual(await opened.page.evaluate(() => window.violations), [], 'violations of the policy');
    assert.equal(await opened.page.evaluate(() => window.hacked), undefined, 'a script of the data ran');
    assert.deepEqual(opened.trouble, []);
    console.log(`ok ${n} - ${name}`);
  } catch (e) {
    failed++;
    console.log(`not ok ${n} - ${name}`);
    console.log(String(e.stack || e).split('\n').slice(0, 25).map((line) => `# ${line}`).join('\n'));
  }
  await opened?.context.close();
  await mock.close();
}

const idle = (page) => page.waitForFunction(() => !document.body.classList.contains('is-busy'));
async function say(page, text) {
  await page.fill('#input', text);
  await page.press('#input', 'Enter');
  await idle(page);
}
const lastAnswer = (page) => page.locator('.assistant').last();
const text = (page, selector) => page.locator(selector).last().innerText();

await check('an answer is streamed, rendered and counted', { pace: 60 }, {}, async (page, mock) => {
  await page.fill('#input', 'Hello there');
  await page.press('#input', 'Enter');
  await page.waitForSelector('.is-busy .assistant .text');
  assert.equal(await page.locator('#stop').isVisible(), true);
  await page.waitForFunction(() => /tokens\/s/.test(document.getElementById('live').textContent));
  await idle(page);
  assert.equal(await text(page, '.assistant .text'), 'Answer 1 of demo. It has two sentences.');
  assert.equal(await page.locator('.assistant strong').innerText(), 'two');
  assert.match(await text(page, '.stats'), /\d+ tokens · [\d.]+ tokens\/s · first word after .* · 75 % of the prompt from the cache/);
  assert.match(await text(page, '#context-words'), /^1\d\d \/ 2,048$/);
  const body = mock.requests[0];
  assert.deepEqual(body.messages, [{ role: 'user', content: 'Hello there' }]);
  assert.equal(body.model, 'demo');
  assert.equal(body.stream, true);
  assert.equal(body.stream_options.include_usage, true);
  assert.equal('temperature' in body, false);
  await page.click('.receipt summary');
  const receipt = await text(page, '.receipt');
  for (const part of ['fp_1f2e', 'req_abc', '90 tokens', 'stop']) {
    assert.ok(receipt.includes(part), `${part} in ${receipt}`);
  }
});

/* Drops a file with these bytes on the page. */
const drop = (page, name, type, base64) => page.evaluate(([n, t, data]) => {
  const transfer = new DataTransfer();
  transfer.items.add(new File([Uint8Array.from(atob(data), (c) => c.charCodeAt(0))], n, { type: t }));
  for (const kind of ['dragover', 'drop']) {
    document.dispatchEvent(new DragEvent(kind, { dataTransfer: transfer, bubbles: true, cancelable: true }));
  }
}, [name, type, base64]);
const DOT = 'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==';

await check('a picture that is dropped is sent, shown and answered', { sees: true }, {}, async (page, mock) => {
  await drop(page, 'dot.png', 'image/png', DOT);
  await page.waitForSelector('#pictures img');
  assert.equal(await page.locator('#pictures img').evaluate((img) => img.naturalWidth), 1);
  await say(page, 'What is this?');
  assert.deepEqual(mock.requests[0].messages, [{ role: 'user', content: [
    { type: 'image_url', image_url: { url: `data:image/png;base64,${DOT}` } }, { type: 'text', text: 'What is this?' }] }]);
  assert.equal(await page.locator('.message.user img').count(), 1);
  assert.equal(await page.locator('#pictures').isVisible(), false);
  await lastAnswer(page).locator('.text').waitFor();
  await say(page, 'And now?'); // the picture stays in the conversation
  assert.equal(mock.requests[1].messages[0].content[0].type, 'image_url');
  await page.reload();
  await page.evaluate(() => document.querySelector('.chat').click());
  assert.equal(await page.locator('.message.user img').count(), 1);
});

await check('pictures can be left out, chosen by keyboard, and come back with editing', { sees: true }, {}, async (page, mock) => {
  await page.setInputFiles('#picture-file', [
    { name: 'a.png', mimeType: 'image/png', buffer: Buffer.from(DOT, 'base64') },
    { name: 'b.png', mimeType: 'image/png', buffer: Buffer.from(DOT, 'base64') }]);
  await page.waitForFunction(() => document.querySelectorAll('#pictures img').length === 2);
  await page.click('[aria-label="Leave out picture 2"]');
  assert.equal(await page.locator('#pictures img').count(), 1);
  await page.press('#input', 'Enter'); // without words
  await idle(page);
  assert.equal(mock.requests[0].messages[0].content.length, 2);
  await page.keyboard.press('Alt+E');
  assert.equal(await page.locator('#pictures img').count(), 1);
  await page.keyboard.press('Escape');
  assert.equal(await page.locator('#pictures').isVisible(), false);
  await drop(page, 'notes.txt', 'text/plain', 'QUJD');
  await page.waitForFunction(() => /no JPEG, PNG or WebP/.test(document.getElementById('notice').textContent));
});

await check('a model that reads text only is not shown a picture', {}, {}, async (page) => {
  assert.equal(await page.locator('#add-picture').isVisible(), false);
  await drop(page, 'dot.png', 'image/png', DOT);
  await page.waitForFunction(() => /reads text only/.test(document.getElementById('notice').textContent));
  assert.equal(await page.locator('#pictures').isVisible(), false);
});

await check('the conversation goes on, in order', {}, {}, async (page, mock) => {
  await say(page, 'one');
  await say(page, 'two');
  assert.deepEqual(mock.requests[1].messages.map((m) => [m.role, m.content]), [
    ['user', 'one'], ['assistant', 'Answer 1 of demo. It has **two** sentences.'], ['user', 'two']]);
});

await check('stop keeps what is there and closes the connection', { pace: 5 }, {}, async (page, mock) => {
  await page.fill('#input', 'mock:endless');
  await page.press('#input', 'Enter');
  await page.waitForFunction(() => /word9/.test(document.getElementById('messages').innerText));
  await page.click('#stop');
  await idle(page);
  assert.match(await text(page, '.assistant .note'), /^Stopped\.$/);
  await page.waitForTimeout(100);
  assert.equal(mock.closed, 1);
  const before = await text(page, '.assistant .text');
  assert.match(before, /^word0 word1 /);
  await page.waitForTimeout(100);
  assert.equal(await text(page, '.assistant .text'), before);
  await say(page, 'more');
  assert.equal(mock.requests[1].messages[1].content.trim(), before.trim());
});

await check('retry keeps both answers', {}, {}, async (page, mock) => {
  await say(page, 'again');
  await page.click('.retry');
  await idle(page);
  assert.match(await text(page, '.assistant .text'), /^Answer 2/);
  assert.equal(mock.requests[1].messages.length, 1);
  assert.match(await text(page, '.versions'), /2\/2/);
  await page.click('[aria-label="Answer before"]');
  assert.match(await text(page, '.assistant .text'), /^Answer 1/);
  await say(page, 'next');
  assert.match(mock.requests[2].messages[1].content, /^Answer 1/);
});

await check('editing the last message replaces what follows', {}, {}, async (page, mock) => {
  await say(page, 'first');
  await say(page, 'secnod');
  await page.click('.user .edit');
  assert.equal(await page.inputValue('#input'), 'secnod');
  await page.keyboard.press('Escape');
  assert.equal(await page.inputValue('#input'), '');
  assert.equal(await page.locator('.message').count(), 4);
  await page.press('#input', 'ArrowUp');
  await say(page, 'second');
  assert.equal(await page.locator('.message').count(), 4);
  assert.equal(mock.requests[2].messages[2].content, 'second');
});

await check('thinking is folded and timed', { pace: 20 }, {}, async (page, mock) => {
  await page.fill('#input', 'mock:think');
  await page.press('#input', 'Enter');
  await page.waitForFunction(() => /^Thinking… 1\.\d s$/.test(document.querySelector('.thinking summary')?.textContent));
  assert.equal(await page.locator('.thinking').evaluate((d) => d.open), false);
  assert.match(await text(page, '#live'), /^thinking/);
  await idle(page);
  assert.match(await text(page, '.thinking summary'), /^Thought for \d/);
  assert.equal(await page.locator('.thoughts').isVisible(), false);
  await page.click('.thinking summary');
  assert.match(await text(page, '.thoughts'), /^The user asks/);
  assert.equal(await text(page, '.text'), 'Forty-two.');
  await say(page, 'next');
  assert.match(mock.requests[1].messages[1].reasoning_content, /^The user asks/);
});

await check('calls of tools are shown, their results sent', {}, {}, async (page, mock) => {
  await say(page, 'mock:tool');
  assert.deepEqual(await page.locator('.call-name code').allInnerTexts(), ['get_weather', 'get_time']);
  assert.equal(await page.locator('.call-arguments').first().innerText(),
    JSON.stringify({ city: 'Lima', units: { temperature: 'C' } }, null, 2));
  await page.click('.results .main');
  assert.match(await text(page, '#notice'), /wants a result/);
  await page.getByLabel('Result of get_weather').fill('18 degrees');
  await page.getByLabel('Result of get_time').fill('noon');
  await page.click('.results .main');
  await idle(page);
  const sent = mock.requests[1].messages;
  assert.deepEqual(sent.map((m) => m.role), ['user', 'assistant', 'tool', 'tool']);
  assert.equal(sent[1].tool_calls[0].function.arguments, '{"city":"Lima","units":{"temperature":"C"}}');
  assert.deepEqual([sent[2].tool_call_id, sent[2].content], ['call_1', '18 degrees']);
  assert.equal(await text(page, '.assistant .text'), 'It is noon there.');
});

await check('by keyboard alone', { pace: 5 }, {}, async (page, mock) => {
  const focused = () => page.evaluate(() => document.activeElement.id || document.activeElement.textContent.trim());
  assert.equal(await focused(), 'input');
  await page.keyboard.type('two');
  await page.keyboard.press('Shift+Enter');
  await page.keyboard.type('lines');
  await page.keyboard.press('Enter');
  await page.waitForSelector('.assistant');
  await idle(page);
  assert.equal(mock.requests[0].messages[0].content, 'two\nlines');
  assert.equal(await focused(), 'input');
  await page.keyboard.press('Alt+KeyR');
  await page.waitForFunction(() => document.querySelector('.versions'));
  await idle(page);
  assert.equal(mock.requests.length, 2);
  await page.keyboard.press('Alt+KeyE');
  assert.equal(await page.inputValue('#input'), 'two\nlines');
  await page.keyboard.press('Escape');
  await page.keyboard.type('mock:endless');
  await page.keyboard.press('Enter');
  await page.waitForSelector('.is-busy .text >> text=word2');
  await page.keyboard.press('Escape');
  await idle(page);
  assert.equal(await text(page, '.assistant .note'), 'Stopped.');
  await page.keyboard.press('Alt+KeyS');
  assert.equal(await focused(), 'close-settings');
  await page.keyboard.press('Escape');
  assert.equal(await focused(), 'open-settings');
  await page.keyboard.press('/');
  assert.equal(await focused(), 'input');
  await page.keyboard.press('Alt+KeyM');
  await page.waitForSelector('#models-dialog[open]');
  await page.keyboard.press('Tab');
  await page.keyboard.press('Tab');
  await page.keyboard.press('Enter');
  assert.equal(await page.inputValue('#model'), 'qwen3-0.6b');
  await page.keyboard.press('Alt+KeyN');
  assert.equal(await page.locator('.message').count(), 0);
  // everything that can be pressed is reached by Tab, in the order of the page
  const reached = [];
  for (let i = 0; i < 30; i++) {
    await page.keyboard.press('Tab');
    reached.push(await focused());
  }
  const order = ['To the message field', 'open-side', 'model', 'open-settings', 'What is the capital of Peru?', 'input', 'send'];
  assert.deepEqual(reached.slice(reached.indexOf(order[0])).filter((id) => order.includes(id)).slice(0, order.length), order);
});

await check('markup of models, names and errors stays text', {}, {}, async (page) => {
  await say(page, 'mock:xss');
  assert.ok((await text(page, '.assistant .text')).includes('<img src=x onerror="window.hacked=1">'));
  await say(page, 'mock:overlong');
  assert.ok((await text(page, '.error')).includes(`context 2048. ${XSS}`));
  await say(page, 'mock:midway');
  assert.ok((await text(page, '.error')).includes(XSS));
  assert.equal(await text(page, '.assistant .text'), 'Half of');
  await say(page, XSS);
  await page.keyboard.press('Alt+KeyC');
  await page.keyboard.press('Alt+KeyM');
  await page.waitForSelector('#models-dialog tbody tr');
  assert.equal(await page.locator('#messages img, #messages script, dialog img, dialog script').count(), 0);
  assert.deepEqual(await page.locator('#messages a').evaluateAll((list) => list.map((a) => [a.href, a.rel, a.target])), [
    ['https://example.org/p.png', 'noopener noreferrer nofollow', '_blank'], ['https://example.org/', 'noopener noreferrer nofollow', '_blank']]);
  const file = JSON.stringify({ chats: [{ id: 'x', title: XSS, messages: [{ role: 'user', content: XSS }, {
    role: 'assistant', content: XSS, reasoning: XSS, calls: [{ name: XSS, arguments: XSS, id: XSS }],
    receipt: { seed: XSS, [XSS]: XSS, warning: XSS }, error: { message: XSS, code: XSS, status: XSS } }] }] });
  await page.keyboard.press('Escape');
  await page.setInputFiles('#import-file', { name: 'x.json', mimeType: 'application/json', buffer: Buffer.from(file) });
  await page.click(`.chat >> nth=0`);
  await page.locator('.chat').evaluateAll((list) => list.forEach((one) => one.click()));
  await page.waitForTimeout(200);
  assert.equal(await page.locator('#messages img, #messages script, nav script').count(), 0);
});

await check('what the server says is shown in its words', {}, {}, async (page, mock) => {
  await say(page, 'mock:busy');
  assert.match(await text(page, '.error'), /The queue is full: 64 requests wait\.\s+HTTP 429 · server_overloaded\s+The server asks to try again in 3\.0 s/);
  assert.equal(await page.locator('.retry').isVisible(), true);
  await say(page, 'mock:html');
  assert.match(await text(page, '.error'), /^HTTP 502 Bad Gateway/);
  await say(page, 'mock:cut');
  assert.match(await text(page, '.error'), /lost before the answer was complete/);
  assert.match(await text(page, '.assistant .text'), /^This answer is cut/);
  await say(page, 'mock:short');
  assert.match(await text(page, '.error'), /ended the answer before it was complete/);
  await say(page, 'mock:warning');
  assert.match(await text(page, '.assistant .note'), /The server notes: ignored: timings_per_token/);
  await say(page, 'mock:ping');
  assert.equal(await text(page, '.assistant .text'), 'Still here.');
  await mock.close();
  await say(page, 'hello?');
  assert.match(await text(page, '.error'), /cannot be reached/);
});

await check('progress of the prompt', {}, {}, async (page) => {
  await page.fill('#input', 'mock:progress');
  await page.press('#input', 'Enter');
  await page.waitForFunction(() => /Reading the prompt: [\d,]+ of 8,000 tokens/.test(document.querySelector('.waiting')?.innerText));
  assert.equal(await page.locator('.waiting progress').getAttribute('aria-label'), 'Prompt read');
  await idle(page);
  assert.equal(await page.locator('.waiting').count(), 0);
});

await check('settings are checked, kept and sent', {}, {}, async (page, mock) => {
  await page.keyboard.press('Alt+KeyS');
  await page.getByLabel('System prompt').fill('Be brief.');
  await page.getByLabel('Temperature').fill('0.5');
  await page.getByLabel('Top k').fill('20');
  await page.getByLabel('Seed').fill('7');
  await page.getByLabel('Longest answer').fill('99');
  await page.getByLabel('Thinking', { exact: true }).selectOption('off');
  await page.click('#settings summary');
  await page.getByLabel('JSON schema').fill('{"type":');
  await page.fill('#input', 'x');
  await page.press('#input', 'Enter');
  assert.equal(mock.requests.length, 0);
  assert.match(await text(page, '#set-schema-wrong'), /^Not JSON/);
  assert.equal(await page.evaluate(() => document.activeElement.id), 'set-schema');
  await page.getByLabel('JSON schema').fill('{"type":"object"}');
  await page.getByLabel('Top p').fill('1.5');
  await page.press('#input', 'Enter');
  assert.equal(mock.requests.length, 0);
  await page.getByLabel('Top p').fill('');
  await page.reload();
  await page.waitForSelector('#model option', { state: 'attached' });
  await say(page, 'x');
  const body = mock.requests[0];
  assert.deepEqual(body.messages[0], { role: 'system', content: 'Be brief.' });
  assert.deepEqual([body.temperature, body.top_k, body.seed, body.max_tokens], [0.5, 20, 7, 99]);
  assert.deepEqual(body.chat_template_kwargs, { enable_thinking: false });
  assert.deepEqual(body.response_format, { type: 'json_schema', json_schema: { name: 'answer', strict: true, schema: { type: 'object' } } });
  await page.keyboard.press('Alt+KeyS');
  await page.click('#clear-settings');
  await say(page, 'y');
  assert.equal('temperature' in mock.requests[1] || 'response_format' in mock.requests[1], false);
});

await check('conversations are kept, exported, imported and deleted', { pace: 0 }, {}, async (page, mock, { context }) => {
  await say(page, 'remember me');
  await page.keyboard.press('Alt+KeyN');
  await say(page, 'another');
  await page.reload();
  await page.waitForSelector('#model option', { state: 'attached' });
  await page.keyboard.press('Alt+KeyC');
  assert.deepEqual(await page.locator('.chat').allInnerTexts(), ['another', 'remember me']);
  const [download] = await Promise.all([page.waitForEvent('download'), page.click('#export')]);
  const exported = readFileSync(await download.path(), 'utf8');
  assert.deepEqual(JSON.parse(exported).chats.map((chat) => chat.title), ['another', 'remember me']);
  await page.locator('.chat', { hasText: 'remember me' }).click();
  assert.match(await text(page, '.assistant .text'), /^Answer 1/);
  await page.locator('li', { hasText: 'another' }).getByRole('button', { name: 'Delete another' }).click();
  assert.equal(await page.locator('.chat').count(), 2);
  await page.locator('li', { hasText: 'another' }).locator('.delete').click();
  assert.equal(await page.locator('.chat').count(), 1);
  await page.setInputFiles('#import-file', { name: 'c.json', mimeType: 'application/json', buffer: Buffer.from(exported) });
  await page.waitForFunction(() => document.querySelectorAll('.chat').length === 3);
  await page.setInputFiles('#import-file', { name: 'c.json', mimeType: 'application/json', buffer: Buffer.from('nonsense') });
  await page.waitForFunction(() => /not JSON/.test(document.getElementById('notice').textContent));
  const other = await watched(context, mock.url);
  await other.page.goto(mock.url);
  await other.page.waitForFunction(() => document.querySelectorAll('.chat').length === 3);
});

await check('a full store does not lose the answer', { pace: 0 }, {}, async (page) => {
  await page.evaluate(() => {
    Storage.prototype.setItem = () => { throw new DOMException('full', 'QuotaExceededError'); };
  });
  await say(page, 'x');
  assert.match(await text(page, '.assistant .text'), /^Answer 1/);
  assert.match(await text(page, '#notice'), /no room left/);
});

await check('a server with keys asks for one', { key: 'sk-right' }, {}, async (page, mock) => {
  await page.waitForSelector('#key-dialog[open]');
  await page.keyboard.type('sk-wrong');
  await page.keyboard.press('Enter');
  await page.waitForFunction(() => /wants a key/.test(document.getElementById('server-state').textContent));
  await page.waitForSelector('#key-dialog[open]');
  await page.keyboard.type('sk-right');
  await page.keyboard.press('Enter');
  await page.waitForSelector('#model option', { state: 'attached' });
  await say(page, 'x');
  assert.match(await text(page, '.assistant .text'), /^Answer 1/);
  const places = await page.evaluate(() => [JSON.stringify({ ...localStorage }), JSON.stringify({ ...sessionStorage }), document.cookie, location.href]);
  assert.equal(places[0].includes('sk-right'), false);
  assert.equal(places[1].includes('sk-right'), true);
  assert.equal(places[2] + places[3].includes('sk-'), 'false');
  mock.key = 'sk-new';
  await say(page, 'y');
  await page.waitForSelector('#key-dialog[open]');
});

/* WCAG contrast of every visible text against what is painted behind it. */
const contrasts = () => {
  const numbers = (colour) => {
    const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = (rgb) => rgb.slice(0, 3).map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const low = [];
  for (const node of document.querySelectorAll('body *')) {
    const own = [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim());
    if (!own || !node.checkVisibility({ visibilityProperty: true }) || node.closest('.unseen, :disabled, .skip, noscript, option')) {
      continue;
    }
    let back = [0, 0, 0, 0];
    for (let up = node; up && back[3] < 255; up = up.parentElement) {
      const colour = numbers(getComputedStyle(up).backgroundColor);
      back = colour[3] === 255 ? colour : back;
    }
    const pair = [light(numbers(getComputedStyle(node).color)), light(back)].sort((a, b) => b - a);
    const ratio = (pair[0] + 0.05) / (pair[1] + 0.05);
    if (ratio < 4.5) {
      low.push(`${node.tagName}.${node.className} ${ratio.toFixed(2)} ${node.textContent.slice(0, 30)}`);
    }
  }
  return low;
};
async function everything(page) {
  await say(page, 'mock:long');
  await say(page, 'mock:think');
  await say(page, 'mock:busy');
  await say(page, 'mock:tool');
  await page.click('.receipt summary');
}
for (const colorScheme of ['light', 'dark']) {
  await check(`${colorScheme}: as the system has it, and readable`, { pace: 0 }, { colorScheme }, async (page) => {
    await everything(page);
    await page.keyboard.press('Alt+KeyC');
    await page.keyboard.press('Alt+KeyS');
    const ground = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    assert.equal(ground, colorScheme === 'dark' ? 'rgb(23, 25, 27)' : 'rgb(251, 250, 247)');
    assert.deepEqual(await page.evaluate(contrasts), []);
    await page.keyboard.press('Alt+KeyM');
    assert.deepEqual(await page.evaluate(contrasts), []);
    await page.keyboard.press('Escape');
    await page.click('#theme');
    await page.click('#theme');
    assert.equal(await text(page, '#theme'), 'Theme: dark');
    assert.equal(await page.evaluate(() => getComputedStyle(document.body).backgroundColor), 'rgb(23, 25, 27)');
    await page.reload();
    assert.equal(await page.evaluate(() => getComputedStyle(document.body).backgroundColor), 'rgb(23, 25, 27)');
  });
}

for (const width of [320, 390, 768, 2560]) {
  await check(`${width} pixels wide: nothing is wider than the screen`, { pace: 0 }, { viewport: { width, height: 640 } }, async (page) => {
    const fits = async (where) => {
      await page.waitForTimeout(250);
      const wide = await page.evaluate((most) => [...document.querySelectorAll('body, body *')].filter((node) => {
        const box = node.getBoundingClientRect();
        const scrolls = node.parentElement?.closest('pre, .scroll, .unseen, #side, #settings, .skip');
        return !scrolls && !node.matches('#side, #settings, .unseen, .skip') && box.width > 0 && (box.right > most + 0.5 || box.left < -0.5);
      }).map((node) => `${node.tagName}#${node.id}.${node.className}`), width);
      assert.deepEqual(wide, [], where);
      const sideways = await page.evaluate(() => [...document.querySelectorAll('body *')].filter((node) =>
        node.scrollWidth > node.clientWidth + 1 && /auto|scroll/.test(getComputedStyle(node).overflowX) &&
        !node.matches('pre, .scroll, input, #side, #settings')).map((node) => `${node.tagName}#${node.id}.${node.className}`));
      assert.deepEqual(sideways, [], `${where}: scrolls sideways`);
      assert.ok(await page.evaluate(() => document.scrollingElement.scrollWidth <= innerWidth), where);
    };
    await fits('empty');
    await everything(page);
    await fits('answers');
    await say(page, `${'W'.repeat(400)} mock`);
    await say(page, 'mock:overlong');
    await fits('long words');
    await page.click('#open-side');
    await fits('side');
    await page.click('#open-models');
    await page.waitForSelector('#models-dialog tbody tr');
    await fits('models');
    await page.keyboard.press('Escape');
    await page.click('#open-settings');
    await fits('settings');
  });
}

await check('every control has a name, every dialog a title', { pace: 0 }, {}, async (page, mock, { context }) => {
  const client = await context.newCDPSession(page);
  const nameless = async (where) => {
    const { nodes } = await client.send('Accessibility.getFullAXTree');
    const controls = /^(button|textbox|combobox|link|spinbutton|checkbox|slider|listbox|option|dialog|region|navigation|complementary|progressbar|meter|DisclosureTriangle|searchbox|form|table|list)$/;
    const bad = nodes.filter((node) => !node.ignored && controls.test(node.role?.value) && !node.name?.value &&
      !(node.role.value === 'list' || node.role.value === 'table' || node.role.value === 'form'));
    assert.deepEqual(bad.map((node) => node.role.value), [], where);
    assert.ok(nodes.filter((node) => !node.ignored && node.role?.value === 'button').length > 0);
    const doubles = await page.evaluate(() => {
      const ids = [...document.querySelectorAll('[id]')].map((node) => node.id);
      return ids.filter((id, i) => ids.indexOf(id) !== i);
    });
    assert.deepEqual(doubles, [], 'ids that are there twice');
  };
  await nameless('empty');
  await everything(page);
  await nameless('answers');
  await page.keyboard.press('Alt+KeyC');
  await page.keyboard.press('Alt+KeyS');
  await page.click('#settings summary');
  await nameless('panels');
  await page.keyboard.press('Alt+KeyM');
  await nameless('models');
  assert.equal(await page.locator('html').getAttribute('lang'), 'en');
  assert.equal(await page.locator('h1').count(), 1);
});

await check('screen readers hear sentences, not pieces', { pace: 5 }, {}, async (page) => {
  await page.evaluate(() => {
    window.heard = [];
    new MutationObserver((list) => list.forEach((m) => m.addedNodes.forEach((node) => window.heard.push(node.textContent))))
      .observe(document.getElementById('spoken'), { childList: true });
  });
  assert.equal(await page.locator('#spoken').getAttribute('aria-live'), 'polite');
  await say(page, 'x');
  assert.deepEqual(await page.evaluate(() => window.heard), ['Answer 1 of demo.', 'It has  two  sentences.', 'The answer is complete.']);
  await say(page, 'mock:tool');
  assert.ok((await page.evaluate(() => window.heard)).includes('The model calls get_weather, get_time.'));
  assert.equal(await page.locator('#messages[aria-live], .text[aria-live]').count(), 0);
});

await check('reduced motion', { pace: 20 }, { reducedMotion: 'reduce' }, async (page) => {
  await page.fill('#input', 'mock:think');
  await page.press('#input', 'Enter');
  await page.waitForSelector('.thinking.running summary');
  assert.equal(await page.locator('.thinking summary').evaluate((node) => getComputedStyle(node).animationName), 'none');
  await page.keyboard.press('Escape');
});

await check('code can be copied', { pace: 0 }, {}, async (page) => {
  await say(page, 'mock:long');
  await page.click('.code .copy');
  assert.match(await page.evaluate(() => navigator.clipboard.readText()), /^def discharge\(area, speed\):\n {4}"""/);
  await page.getByRole('button', { name: 'Copy the answer' }).click();
  assert.match(await page.evaluate(() => navigator.clipboard.readText()), /^# Comparing three rivers\n/);
});

await check('the end of the answer stays in sight unless the reader goes up', { pace: 2 }, { viewport: { width: 600, height: 400 } }, async (page) => {
  const at = () => page.evaluate(() => {
    const box = document.getElementById('scroller');
    return box.scrollHeight - box.scrollTop - box.clientHeight;
  });
  await page.fill('#input', 'mock:endless');
  await page.press('#input', 'Enter');
  await page.waitForFunction(() => /word200/.test(document.getElementById('messages').textContent));
  assert.ok((await at()) < 60);
  await page.locator('#scroller').hover();
  await page.mouse.wheel(0, -200);
  await page.waitForTimeout(400);
  assert.ok((await at()) > 100);
  await page.click('#down');
  await page.waitForTimeout(300);
  assert.ok((await at()) < 60);
  await page.keyboard.press('Escape');
  await idle(page);
});

if (realUrl) {
  await check('slm serve: a real answer of the demo model', {}, {}, async (unused, mock, { context }) => {
    const { page, trouble } = await watched(context, realUrl);
    const answers = [];
    page.on('response', (response) => answers.push(response));
    await page.goto(realUrl);
    await page.waitForSelector('#model option', { state: 'attached' });
    const document_ = answers.find((response) => response.url() === realUrl);
    const script = answers.find((response) => response.url().endsWith('/app.js'));
    assert.match(document_.headers()['content-security-policy'], /default-src 'none'/);
    assert.equal(document_.headers()['cache-control'], 'no-cache');
    assert.match(script.headers()['cache-control'], /immutable/);
    assert.match(await page.inputValue('#model'), /demo/);
    await page.evaluate(() => localStorage.setItem('slm.settings', JSON.stringify({ seed: '1', temperature: '0', max_tokens: '200' })));
    await page.reload();
    await page.waitForSelector('#model option', { state: 'attached' });
    await say(page, 'What is the capital of Peru?');
    assert.equal(await page.locator('.error:visible').count(), 0, await page.locator('#messages').innerText());
    const first = await text(page, '.assistant .text');
    assert.match(first, /Lima/);
    assert.match(await text(page, '.stats'), /\d+ tokens? · [\d.]+ tokens\/s · first word after/);
    assert.match(await text(page, '#context-words'), /^\d+ \/ [\d,]+$/);
    assert.equal(await page.locator('.note', { hasText: 'The server notes' }).count(), 0);
    assert.match(await text(page, '.thinking summary'), /^Though/);
    assert.ok((await page.locator('.thoughts').textContent()).includes('Lima'));
    await page.click('.receipt summary');
    assert.match(await text(page, '.receipt'), /Asked with\s+Temperature 0, Longest answer 200, Seed 1/);
    await page.click('.retry');
    await idle(page);
    assert.equal(await text(page, '.assistant .text'), first);
    assert.match(await text(page, '.stats'), /% of the prompt from the cache/);
    await page.keyboard.press('Alt+KeyS');
    await page.click('#settings summary');
    await page.getByLabel('Tools').fill(JSON.stringify([{ type: 'function', function: {
      name: 'get_weather', parameters: { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] } } }]));
    await page.getByLabel('Thinking', { exact: true }).selectOption('off');
    await page.keyboard.press('Alt+KeyN');
    await say(page, 'What is the weather in Lima?');
    assert.equal(await text(page, '.call-name code'), 'get_weather', await page.locator('#messages').innerText());
    assert.equal(await text(page, '.call-arguments'), '{\n  "city": "Lima"\n}');
    assert.equal(await page.locator('.thinking').count(), 0);
    await page.getByLabel('Result of get_weather').fill('{"temperature": 18, "sky": "cloudy"}');
    await page.getByRole('button', { name: 'Send the result' }).click();
    await idle(page);
    assert.match(await text(page, '.assistant .text'), /18/);
    await page.click('#clear-settings');
    await page.getByLabel('JSON schema').fill(JSON.stringify({ type: 'object', additionalProperties: false, required: ['age'],
      properties: { age: { type: 'integer', minimum: 0, maximum: 99 } } }));
    await say(page, 'Anna is 30 years old.');
    const made = JSON.parse(await text(page, '.assistant .text'));
    assert.deepEqual([Object.keys(made), Number.isInteger(made.age)], [['age'], true]);
    await page.click('#clear-settings');
    await say(page, 'x '.repeat(3000));
    assert.match(await text(page, '.error'), /3\d\d\d tokens.*1024[^]*context_length_exceeded/);
    const again = await page.request.get(realUrl, { headers: { accept: 'text/html', 'if-none-match': document_.headers().etag } });
    assert.equal(again.status(), 304);
    assert.equal((await page.request.get(`${realUrl}page/0/app.js`)).status(), 404);
    await page.keyboard.press('Alt+KeyM');
    await page.waitForSelector('#models-dialog tbody tr');
    assert.match(await page.locator('#models-dialog tbody tr').first().innerText(), /demo/);
    await page.keyboard.press('Escape');
    assert.deepEqual(await page.evaluate(() => window.violations), []);
    assert.deepEqual(trouble, []);
  });
}

await browser.close();
console.log(`1..${n}`);
process.exit(failed ? 1 : 0);
