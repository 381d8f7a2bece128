/* messages.js - how a conversation looks: one element for each message, and the answer that grows. */
import { MarkdownStream, renderMarkdown } from './markdown.js';
import { shownAnswer, textOf } from './chats.js';
import { pictureUrl } from './pictures.js';
import { bytes, button, copyText, count, el, seconds } from './dom.js';

/* JSON text the way people read it; what is not JSON stays as it is. */
export function pretty(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

/* ------------------------------------------------------------------ parts of an answer */

function thinkSummary(answer, running) {
  if (running) {
    return 'Thinking…';
  }
  return answer.thinkMs >= 100 ? `Thought for ${seconds(answer.thinkMs)}` : 'Thoughts';
}

function callBox(call, result) {
  return el('section', { class: 'call', 'aria-label': `Call of ${call.name}` },
    el('p', { class: 'call-name' }, el('span', { class: 'under' }, 'calls '), el('code', {}, call.name || '…')),
    el('pre', { class: 'call-arguments', tabindex: '0', role: 'region', 'aria-label': `Arguments of ${call.name}` },
      el('code', {}, pretty(call.arguments || '{}'))),
    result);
}

/* Where the result of a call is typed in. */
function resultForm(call, i, actions) {
  const id = `result-${call.id}-${i}`;
  const area = el('textarea', { id, rows: 2, 'data-call': call.id, 'data-name': call.name, class: 'result' });
  area.value = '';
  area.addEventListener('keydown', (event) => {
    if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      actions.results();
    }
  });
  return el('div', { class: 'field' }, el('label', { for: id }, `Result of ${call.name}`), area);
}

function errorBox(error, actions, last) {
  const about = [
    error.status ? `HTTP ${error.status}` : '', error.code, error.param ? `field ${error.param}` : '',
    error.request ? `request ${error.request}` : '',
  ].filter(Boolean).join(' · ');
  const box = el('div', { class: 'error', role: 'alert' }, el('p', {}, error.message),
    about ? el('p', { class: 'under' }, about) : null);
  if (error.retryMs) {
    box.append(el('p', { class: 'under' }, `The server asks to try again in ${seconds(error.retryMs)}.`));
  }
  if (last && error.status === 401) {
    box.append(button('Enter the key', () => actions.key(), { class: 'plain' }));
  }
  return box;
}

/* ------------------------------------------------------------------ receipt */

const LABELS = {
  prompt_tokens: 'Prompt', cached_tokens: 'from the cache', completion_tokens: 'Answer',
  reasoning_tokens: 'of it thinking', first_ms: 'First word after', prompt_per_second: 'Prompt speed',
  predicted_per_second: 'Answer speed', queue_ms: 'Waited in the queue', draft_n: 'Guessed', draft_n_accepted: 'Guesses that held',
  cache_miss: 'Cache missed because', finish: 'Ended by', model: 'Model', system_fingerprint: 'Fingerprint',
  seed: 'Seed', id: 'Number of the answer', request: 'Request', warning: 'Server’s note', created: 'When', total_ms: 'Took',
  context: 'Context', sent: 'Asked with',
};
const TOKENS = /_tokens$|^draft_n|^context$/;
const tokens = (n) => `${count(n)} ${n === 1 ? 'token' : 'tokens'}`;

function receiptValue(key, value) {
  if (typeof value === 'number') {
    return key.endsWith('_ms') ? seconds(value)
      : key.endsWith('_per_second') ? `${value.toFixed(1)} tokens/s`
        : TOKENS.test(key) ? tokens(value)
          : key === 'created' ? new Date(value * 1000).toLocaleString()
            : key.endsWith('bytes') ? bytes(value) : String(value);
  }
  return typeof value === 'string' ? value : JSON.stringify(value);
}

function receiptBox(receipt) {
  const list = el('dl', {});
  for (const [key, value] of Object.entries(receipt)) {
    if (value === null || value === undefined || value === '') {
      continue;
    }
    list.append(el('dt', {}, LABELS[key] || key.replaceAll('_', ' ')), el('dd', {}, receiptValue(key, value)));
  }
  return el('details', { class: 'receipt' }, el('summary', {}, 'Receipt'), list);
}

/* "42 tokens · 18.3 tokens/s · first word after 0.3 s · 96 % from the cache" */
export function statsLine(receipt) {
  if (!receipt) {
    return '';
  }
  const share = receipt.prompt_tokens > 0 ? receipt.cached_tokens / receipt.prompt_tokens : 0;
  return [
    receipt.completion_tokens ? tokens(receipt.completion_tokens) : '',
    receipt.predicted_per_second ? `${receipt.predicted_per_second.toFixed(1)} tokens/s` : '',
    receipt.first_ms ? `first word after ${seconds(receipt.first_ms)}` : '',
    share > 0 ? `${Math.round(share * 100)} % of the prompt from the cache` : '',
  ].filter(Boolean).join(' · ');
}

const FINISH = {
  length: 'The answer was cut off: it reached the longest answer or the end of the context.',
  content_filter: 'The server held the rest of the answer back.',
  stopped: 'Stopped.',
};

/* ------------------------------------------------------------------ answers */

/* An answer on the page. write() adds what arrives; finish() puts what belongs below it. */
export class AnswerView {
  constructor(message, actions, last) {
    this.message = message;
    this.actions = actions;
    this.last = last;
    this.node = el('li', { class: 'message assistant' });
    this.body = el('div', { class: 'answer' });
    this.below = el('div', { class: 'below' });
    this.node.append(el('h2', { class: 'unseen' }, 'Answer'), this.body, this.below);
    this.reset();
    this.fill();
  }

  get answer() {
    return shownAnswer(this.message);
  }

  reset() {
    this.body.replaceChildren();
    this.below.replaceChildren();
    this.thinking = null;
    this.content = null;
    this.callNodes = [];
    this.progress = null;
  }

  /* A kept answer, at once. */
  fill() {
    const { answer } = this;
    if (answer.reasoning) {
      this.reasoning(answer.reasoning, false);
    }
    const text = textOf(answer.parts);
    if (text) {
      this.content = new MarkdownStream(this.text());
      renderMarkdown(this.content.root, text);
    }
    answer.calls.forEach((call, i) => this.call(i));
  }

  text() {
    const node = el('div', { class: 'text' });
    this.body.append(node);
    return node;
  }

  reasoning(text, running) {
    this.waiting(null);
    if (!this.thinking) {
      const summary = el('summary', {});
      const body = el('div', { class: 'thoughts' });
      const node = el('details', { class: 'thinking' }, summary, body);
      this.body.append(node);
      this.thinking = { summary, body, node };
    }
    this.thinking.body.append(document.createTextNode(text));
    this.thoughts(running);
  }

  /* The words on the folded thoughts; ms: how long they take so far. */
  thoughts(running, ms) {
    if (this.thinking) {
      this.thinking.summary.textContent = running && ms >= 1000
        ? `Thinking… ${seconds(ms)}` : thinkSummary(this.answer, running);
      this.thinking.node.classList.toggle('running', running);
    }
  }

  write(text) {
    this.waiting(null);
    if (!this.content) {
      this.content = new MarkdownStream(this.text());
    }
    this.content.write(text);
  }

  /* Shows call i of the answer anew: its arguments may have grown. */
  call(i) {
    this.waiting(null);
    const box = callBox(this.answer.calls[i], null);
    if (this.callNodes[i]) {
      this.callNodes[i].replaceWith(box);
    } else {
      this.body.append(box);
    }
    this.callNodes[i] = box;
  }

  /* What happens before the first word: { words, done, total }, or null for nothing. */
  waiting(state) {
    if (!state) {
      if (this.progress) {
        this.progress.remove();
        this.progress = null;
      }
      return;
    }
    if (!this.progress) {
      this.progress = el('div', { class: 'waiting' }, el('p', {}));
      this.body.append(this.progress);
    }
    this.progress.firstChild.textContent = state.words;
    let bar = this.progress.querySelector('progress');
    if (state.total && !bar) {
      bar = el('progress', { 'aria-label': 'Prompt read' });
      this.progress.append(bar);
    }
    if (bar) {
      bar.max = state.total;
      bar.value = state.done;
    }
  }

  /* results: the messages that answer the calls. */
  finish(results) {
    const { answer, message, actions } = this;
    this.waiting(null);
    this.thoughts(false);
    this.below.replaceChildren();
    if (answer.error) {
      this.below.append(errorBox(answer.error, actions, this.last));
    }
    if (FINISH[answer.finish]) {
      this.below.append(el('p', { class: 'note' }, FINISH[answer.finish]));
    }
    if (!answer.error && !answer.finish && !textOf(answer.parts) && answer.calls.length === 0) {
      this.below.append(el('p', { class: 'note' }, 'There is no answer.'));
    } else if (answer.finish === 'stop' && !textOf(answer.parts) && answer.calls.length === 0) {
      this.below.append(el('p', { class: 'note' }, 'The model ended without saying anything.'));
    }
    if (answer.receipt && answer.receipt.warning) {
      this.below.append(el('p', { class: 'note' }, `The server notes: ${answer.receipt.warning}`));
    }
    if (this.last && answer.calls.length > 0 && results.length === 0) {
      const forms = answer.calls.map((call, i) => resultForm(call, i, actions));
      this.below.append(el('div', { class: 'results' }, ...forms,
        button(answer.calls.length === 1 ? 'Send the result' : 'Send the results', () => actions.results(), { class: 'main' })));
    }
    const stats = statsLine(answer.receipt);
    const row = el('div', { class: 'row' });
    if (message.versions.length > 1) {
      const at = `${message.shown + 1} of ${message.versions.length}`;
      row.append(el('span', { class: 'versions', role: 'group', 'aria-label': `Answer ${at}` },
        button('‹', () => actions.version(message, -1), { class: 'plain', 'aria-label': 'Answer before', disabled: message.shown === 0 }),
        el('span', {}, `${message.shown + 1}/${message.versions.length}`),
        button('›', () => actions.version(message, 1), {
          class: 'plain', 'aria-label': 'Answer after', disabled: message.shown === message.versions.length - 1,
        })));
    }
    if (textOf(answer.parts)) {
      row.append(button('Copy', (event) => copyText(textOf(answer.parts), event.currentTarget), { class: 'plain', 'aria-label': 'Copy the answer' }));
    }
    if (this.last) {
      row.append(button('Retry', () => actions.retry(), { class: 'plain retry', title: 'Alt+R' }));
    }
    if (stats) {
      row.append(el('span', { class: 'stats' }, stats));
    }
    this.below.append(row);
    if (answer.receipt) {
      this.below.append(receiptBox({ model: answer.model, ...answer.receipt }));
    }
  }
}

/* ------------------------------------------------------------------ other messages */

function userView(message, actions, last) {
  const pictures = message.parts.map(pictureUrl).filter(Boolean);
  const row = last ? el('div', { class: 'row' },
    button('Edit', () => actions.edit(), { class: 'plain edit', title: 'Alt+E' })) : null;
  return el('li', { class: 'message user' }, el('h2', { class: 'unseen' }, 'You'),
    ...pictures.map((url, i) => el('img', { class: 'shown', src: url, alt: `Picture ${i + 1} of this message` })),
    el('div', { class: 'said' }, textOf(message.parts)), row);
}

function toolView(message) {
  return el('li', { class: 'message tool' }, el('h2', { class: 'unseen' }, `Result of ${message.name}`),
    el('p', { class: 'call-name' }, el('span', { class: 'under' }, 'result of '), el('code', {}, message.name)),
    el('pre', { tabindex: '0', role: 'region', 'aria-label': `Result of ${message.name}` },
      el('code', {}, pretty(textOf(message.parts)))));
}

/* The whole conversation anew. Returns the view of the last answer, or null. */
export function renderChat(list, chat, actions) {
  const last = chat.messages.length - 1;
  const lastUser = chat.messages.findLastIndex((message) => message.role === 'user');
  let view = null;
  list.replaceChildren(...chat.messages.map((message, i) => {
    if (message.role === 'user') {
      return userView(message, actions, i === lastUser);
    }
    if (message.role === 'tool') {
      return toolView(message);
    }
    const results = chat.messages[i + 1] && chat.messages[i + 1].role === 'tool' ? [chat.messages[i + 1]] : [];
    view = new AnswerView(message, actions, i === last);
    view.finish(results);
    return view.node;
  }));
  return last >= 0 && chat.messages[last].role === 'assistant' ? view : null;
}
