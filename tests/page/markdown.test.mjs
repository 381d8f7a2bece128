/* Markdown to elements: what each mark gives, that it is the same however the text is cut, that nothing
 * from outside comes in, and that no text takes long. */
import assert from 'node:assert/strict';
import test from 'node:test';
import { MarkdownStream, renderMarkdown, safeAddress } from '../../src/server/page/markdown.js';
import { root } from './fake_dom.mjs';
import { LONG, XSS } from './mock.mjs';

const html = (text) => {
  const node = root();
  renderMarkdown(node, text);
  return node.inner
    .replaceAll(' rel="noopener noreferrer nofollow" target="_blank"', '')
    .replaceAll(/<div class="bar">.*?<\/div>/g, '')
    .replaceAll(/ tabindex="0" role="region" aria-label="[^"]*"/g, '');
};

const CASES = [
  ['plain', 'Hello.', '<p>Hello.</p>'],
  ['two paragraphs', 'a\n\n\nb', '<p>a</p><p>b</p>'],
  ['a new line stays', 'a\nb  \nc\\\nd', '<p>a<br></br>b<br></br>c<br></br>d</p>'],
  ['emphasis', '*a* **b** ***c*** _d_ __e__ ~~f~~',
    '<p><em>a</em> <strong>b</strong> <em><strong>c</strong></em> <em>d</em> <strong>e</strong> <del>f</del></p>'],
  ['emphasis in emphasis', '**a *b* c**', '<p><strong>a <em>b</em> c</strong></p>'],
  ['not emphasis', '2 * 3 * 4, snake_case_name, a ~ b, **open', '<p>2 * 3 * 4, snake_case_name, a ~ b, **open</p>'],
  ['crossed', '*a **b* c**', '<p><em>a <em><em>b</em> c</em></em></p>'],
  ['strong before punctuation', '**Note:** a', '<p><strong>Note:</strong> a</p>'],
  ['beyond ASCII', '**重要**です', '<p><strong>重要</strong>です</p>'],
  ['code', '`a` ``b`c`` ` d `', '<p><code>a</code> <code>b`c</code> <code>d</code></p>'],
  ['open code', 'a `b', '<p>a `b</p>'],
  ['no emphasis in code', '`*a*`', '<p><code>*a*</code></p>'],
  ['escapes', '\\*a\\* \\[b\\] \\a', '<p>*a* [b] \\a</p>'],
  ['link', '[a *b*](https://x.org/y_(z))', '<p><a href="https://x.org/y_(z)">a <em>b</em></a></p>'],
  ['link with title', '[a](https://x.org "t")', '<p><a href="https://x.org">a</a></p>'],
  ['mail', '[a](mailto:a@b.c)', '<p><a href="mailto:a@b.c">a</a></p>'],
  ['address', 'See https://x.org/a_b_c. Or (http://y.org/z)!',
    '<p>See <a href="https://x.org/a_b_c">https://x.org/a_b_c</a>. Or (<a href="http://y.org/z">http://y.org/z</a>)!</p>'],
  ['address in angles', '<https://x.org>', '<p><a href="https://x.org">https://x.org</a></p>'],
  ['no link in a word', 'xhttps://x.org', '<p>xhttps://x.org</p>'],
  ['an image is a link', '![a](https://x.org/i.png)', '<p><a href="https://x.org/i.png">image: a</a></p>'],
  ['no script address', '[a](javascript:alert(1)) [b](data:text/html,x) [c](//x.org) [d](vbscript:x)',
    '<p>[a](javascript:alert(1)) [b](data:text/html,x) [c](//x.org) [d](vbscript:x)</p>'],
  ['no quote in an address', '[a](https://x.org/"onclick="x)', '<p>[a](<a href="https://x.org/">https://x.org/</a>"onclick="x)</p>'],
  ['markup is text', '<b>a</b> &amp;', '<p>&lt;b>a&lt;/b> &amp;amp;</p>'],
  ['headings', '# A\n## B ##\n#no\n####### seven', '<h3>A</h3><h4>B</h4><p>#no<br></br>####### seven</p>'],
  ['rule', 'a\n\n---\n* * *', '<p>a</p><hr></hr><hr></hr>'],
  ['quote', '> a\n> > b\n>\n> c', '<blockquote><p>a</p><blockquote><p>b</p></blockquote><p>c</p></blockquote>'],
  ['list', '- a\n- b\n  more\n- c', '<ul><li>a</li><li>b<br></br>more</li><li>c</li></ul>'],
  ['ordered from', '3. a\n4. b', '<ol start="3"><li>a</li><li>b</li></ol>'],
  ['nested', '1. a\n   - b\n     - c\n2. d', '<ol><li>a<ul><li>b<ul><li>c</li></ul></li></ul></li><li>d</li></ol>'],
  ['nested by two spaces', '- a\n  - b\n- c', '<ul><li>a<ul><li>b</li></ul></li><li>c</li></ul>'],
  ['loose', '- a\n\n- b', '<ul class="loose"><li><p>a</p></li><li><p>b</p></li></ul>'],
  ['tasks', '- [x] a\n- [ ] b', '<ul><li class="task">☑ a</li><li class="task">☐ b</li></ul>'],
  ['a list ends a paragraph', 'a:\n- b\n1. c', '<p>a:</p><ul><li>b</li></ul><ol><li>c</li></ol>'],
  ['a year is no list', 'It was in\n1969. That year', '<p>It was in<br></br>1969. That year</p>'],
  ['code in a list', '- a\n  ```\n  x\n    y\n  ```\n- b', '<ul><li>a<div class="code"><pre><code>x\n  y</code></pre></div></li><li>b</li></ul>'],
  ['fence', '```js\na < b\n\n  c\n```\nd', '<div class="code"><pre><code>a &lt; b\n\n  c</code></pre></div><p>d</p>'],
  ['open fence', '~~~\na', '<div class="code"><pre><code>a</code></pre></div>'],
  ['fence in fence', '````\n```\na\n```\n````', '<div class="code"><pre><code>```\na\n```</code></pre></div>'],
  ['table', '| a | b |\n|---|:-:|\n| `x|y` | \\| |\n| only |\n\nc',
    '<div class="scroll"><table><thead><tr><th class="left">a</th><th class="centre">b</th></tr></thead>' +
    '<tbody><tr><td class="left"><code>x|y</code></td><td class="centre">|</td></tr>' +
    '<tr><td class="left">only</td><td class="centre"></td></tr></tbody></table></div><p>c</p>'],
  ['not a table', 'a | b\nc | d', '<p>a | b<br></br>c | d</p>'],
  ['returns', 'a\r\n\r\n- b\r\n- c', '<p>a</p><ul><li>b</li><li>c</li></ul>'],
];
for (const [name, text, expected] of CASES) {
  test(name, () => assert.equal(html(text), expected));
}

/* Numbers from a seed, so that a failure can be repeated. */
function random(seed) {
  let x = seed;
  return (n) => {
    x = (Math.imul(x, 1664525) + 1013904223) >>> 0;
    return Math.floor((x / 4294967296) * n);
  };
}
const ATOMS = ['a', 'word ', '\n', '\n\n', '*', '**', '_', '`', '```', '```js\n', '\n```\n', '~~', '# ', '- ', '1. ', '  ', '    ',
  '> ', '|', '|---|---|\n', '| a | b |\n', '[', '](', ')', 'https://x.org', '!', '<', '>', '\\', '---\n', 'é', '重', '🙂', ' ', '\r\n', '[x] '];
const streamed = (text, cuts) => {
  const node = root();
  const stream = new MarkdownStream(node);
  let from = 0;
  for (const cut of [...cuts, text.length]) {
    stream.write(text.slice(from, cut));
    from = cut;
  }
  return node.inner;
};
const whole = (text) => {
  const node = root();
  renderMarkdown(node, text);
  return node.inner;
};

/* processor time of this process: what else the machine does must not decide a test */
const processorMs = () => process.cpuUsage().user / 1000;

test('streamed and whole are the same, cut everywhere', () => {
  for (const text of [LONG, ...CASES.map(([, t]) => t)]) {
    const every = Array.from({ length: text.length }, (_, i) => i);
    assert.equal(streamed(text, every), whole(text), JSON.stringify(text));
  }
});
test('streamed and whole are the same for random texts and cuts', () => {
  for (let seed = 1; seed <= 4000; seed++) {
    const r = random(seed);
    let text = '';
    for (let i = r(40) + 1; i > 0; i--) {
      text += ATOMS[r(ATOMS.length)];
    }
    const cuts = Array.from({ length: r(12) }, () => r(text.length + 1)).sort((a, b) => a - b);
    assert.equal(streamed(text, cuts), whole(text), `seed ${seed}: ${JSON.stringify(text)} at ${cuts}`);
  }
});
test('every letter of a text is shown, whatever the marks', () => {
  for (let seed = 1; seed <= 2000; seed++) {
    const r = random(seed);
    let text = '';
    for (let i = 0; i < 30; i++) {
      text += `${ATOMS[r(ATOMS.length)]}x${i}x`;
    }
    const shown = whole(text);
    for (let i = 0; i < 30; i++) {
      // words behind the mark of a code fence are its language, of which the first word is shown; rows
      // of a table have as many cells as its head
      if (!text.includes('```') && !text.includes('|')) {
        assert.ok(shown.includes(`x${i}x`), `seed ${seed}: x${i}x of ${JSON.stringify(text)}`);
      }
    }
  }
});
test('markup never becomes an element', () => {
  const allowed = /^<\/?(?:p|br|em|strong|del|code|a|h[3-6]|hr|ul|ol|li|blockquote|div|span|button|pre|table|thead|tbody|tr|th|td)[ >]/;
  for (let seed = 1; seed <= 500; seed++) {
    const r = random(seed);
    let text = '';
    for (let i = 0; i < 12; i++) {
      text += r(3) ? ATOMS[r(ATOMS.length)] : XSS;
    }
    for (const tag of whole(text).match(/<[^>]*>/g) || []) {
      assert.match(tag, allowed);
      assert.doesNotMatch(tag, /^<[^>]* on|href="(?!https?:|mailto:)/);
    }
  }
});
test('addresses', () => {
  for (const good of ['https://x', 'HTTP://x/y?z#w', 'mailto:a@b']) {
    assert.equal(safeAddress(good), good);
  }
  for (const bad of ['javascript:x', ' https://x', 'https://', 'https:///x', 'data:,x', 'ftp://x', 'https://x y', 'java\nscript:x', 'https://x/\u0000',
    `https://x/${'y'.repeat(3000)}`, 'blob:https://x', '/v1/models', '']) {
    assert.equal(safeAddress(bad), null, bad);
  }
});
const depth = (text, tag) => {
  let now = 0;
  let most = 0;
  for (const found of whole(text).match(new RegExp(`</?${tag}[ >]`, 'g')) || []) {
    now += found[1] === '/' ? -1 : 1;
    most = Math.max(most, now);
  }
  return most;
};
test('nesting is bounded', () => {
  assert.equal(depth(`${'*a '.repeat(20)}b${'*'.repeat(20)}`, 'em'), 20);
  assert.ok(depth(`${'*a '.repeat(20000)}b${' b*'.repeat(20000)}`, 'em') <= 24);
  assert.ok(depth(`${'_a *a '.repeat(10000)}b${'b* b_ '.repeat(10000)}`, 'em') <= 24);
  assert.equal(depth('> '.repeat(5000) + 'a', 'blockquote'), 8);
  assert.ok(depth('- '.repeat(5000) + 'a', 'ul') <= 8);
  assert.ok(depth(Array.from({ length: 300 }, (_, i) => `${'  '.repeat(i)}- a`).join('\n'), 'ul') <= 8);
});
test('time grows with the text, not with its square', () => {
  for (const piece of ['*', '_a', '**a ', '`', '``a', '[', '](', '[a](', '![', '<', '<https://', '> ', '- ', '  - ', '|', '|-', '~~', '\\', ' ', '\n',
    '#', '# ', '1. ', 'https://x.org/(', '*a_', '``` ', 'a\n', '***', '[a](b "', '[a](', '](a', '[[a](b) ', '`` ` ', '| a | b |\n|-|-|\n', '- a\n\n', '> - ', '~~a ']) {
    const text = piece.repeat(Math.ceil(60000 / piece.length));
    const start = processorMs();
    whole(text);
    const ms = processorMs() - start;
    assert.ok(ms < 3000, `${JSON.stringify(piece)} took ${Math.round(ms)} ms`);
  }
});
test('a long answer in small pieces stays quick', () => {
  const node = root();
  const stream = new MarkdownStream(node);
  const start = processorMs();
  for (let i = 0; i < 4000; i++) {
    stream.write(i % 40 === 39 ? 'end.\n\n' : 'word ');
  }
  stream.write('```\n');
  for (let i = 0; i < 20000; i++) {
    stream.write('code line\n');
  }
  assert.ok(processorMs() - start < 5000);
});
