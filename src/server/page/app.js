/* app.js - the page at work: sending and stopping, the panels, keys, what is kept. Reads from below to
 * above: start() at the end wires everything to the App. */
import { Store, newAnswer, newChat, shownAnswer, textOf, textPart, titleOf, wire } from './chats.js';
import { ServerError, listModels, listRunning, streamChat } from './client.js';
import { announce, button, byId, copyText, count, el, seconds, Speaker } from './dom.js';
import { AnswerView, renderChat } from './messages.js';
import { Models } from './models.js';
import { Pictures, pictureUrl, wirePictures } from './pictures.js';
import { Settings } from './settings.js';

const KEY = 'slm.key'; // of sessionStorage: forgotten with the tab
const isWide = () => matchMedia('(min-width: 60rem)').matches;
const THEMES = ['auto', 'light', 'dark'];
const EXAMPLES = [
  'What is the capital of Peru?',
  'Explain in two sentences why the sky is blue.',
  'Write a haiku about winter rain.',
];

/* ------------------------------------------------------------------ one answer as it arrives */

class Run {
  /* ondraw: called after something was added to the page. */
  constructor(view, answer, speaker, ondraw) {
    this.view = view;
    this.answer = answer;
    this.speaker = speaker;
    this.ondraw = ondraw;
    this.abort = new AbortController();
    this.started = performance.now();
    this.first = 0; // when the first token came
    this.thinkFrom = 0;
    this.tokens = 0;
    this.usage = null;
    this.timings = null;
    this.facts = {};
    this.pending = { text: '', reasoning: '', calls: new Set() };
    this.frame = 0;
  }

  head(headers) {
    const warning = headers.get('x-slm-warning');
    const request = headers.get('x-request-id');
    this.facts = { ...(request && { request }), ...(warning && { warning: warning.slice(0, 1000) }) };
  }

  chunk(value) {
    if (value.prompt_progress && !this.first) {
      this.prefill(value.prompt_progress);
    }
    const choice = (value.choices || [])[0];
    const delta = choice && (choice.delta || choice.message);
    if (delta) {
      this.delta(delta);
    }
    if (choice && choice.finish_reason) {
      this.answer.finish = String(choice.finish_reason);
    }
    this.usage = value.usage || this.usage;
    this.timings = value.timings || this.timings;
    for (const key of ['id', 'system_fingerprint', 'created']) {
      if (value[key] !== undefined && value[key] !== null) {
        this.facts[key] = value[key];
      }
    }
    if (value.slm && typeof value.slm === 'object') {
      Object.assign(this.facts, value.slm);
    }
    if (typeof value.model === 'string') {
      this.answer.model = value.model;
    }
  }

  delta(delta) {
    const reasoning = typeof delta.reasoning_content === 'string' ? delta.reasoning_content
      : typeof delta.reasoning === 'string' ? delta.reasoning : '';
    const text = typeof delta.content === 'string' ? delta.content : '';
    const calls = Array.isArray(delta.tool_calls) ? delta.tool_calls : [];
    if (!reasoning && !text && calls.length === 0) {
      return;
    }
    const now = performance.now();
    this.first = this.first || now;
    this.tokens++;
    if (reasoning) {
      this.thinkFrom = this.thinkFrom || now;
      this.answer.thinkMs = now - this.thinkFrom;
      this.answer.reasoning += reasoning;
      this.pending.reasoning += reasoning;
    }
    if (text) {
      const { parts } = this.answer;
      if (parts.length === 0) {
        parts.push(textPart(''));
      }
      parts[0].text += text;
      this.pending.text += text;
      this.speaker.write(text);
    }
    calls.forEach((call, i) => this.call(call, i));
    this.frame = this.frame || requestAnimationFrame(() => this.draw());
  }

  call(call, i) {
    const at = Number.isInteger(call.index) && call.index >= 0 && call.index < 256 ? call.index : i;
    const { calls } = this.answer;
    while (calls.length <= at) {
      calls.push({ id: '', name: '', arguments: '' });
    }
    const f = call.function || {};
    calls[at].id = typeof call.id === 'string' ? call.id : calls[at].id;
    calls[at].name += typeof f.name === 'string' ? f.name : '';
    calls[at].arguments += typeof f.arguments === 'string' ? f.arguments : '';
    this.pending.calls.add(at);
  }

  prefill({ total, processed }) {
    const spent = performance.now() - this.started;
    const left = processed > 0 && spent > 2000 ? (spent / processed) * (total - processed) : 0;
    this.view.waiting({
      done: processed, total,
      words: `Reading the prompt: ${count(processed)} of ${count(total)} tokens` + (left > 1000 ? `, about ${seconds(left)} left` : ''),
    });
  }

  draw() {
    cancelAnimationFrame(this.frame);
    this.frame = 0;
    const { text, reasoning, calls } = this.pending;
    this.pending = { text: '', reasoning: '', calls: new Set() };
    if (reasoning) {
      this.view.reasoning(reasoning, true);
    }
    if (text) {
      this.view.thoughts(false);
      this.view.write(text);
    }
    calls.forEach((at) => this.view.call(at));
    this.ondraw();
  }

  get thinks() {
    return this.answer.reasoning !== '' && this.answer.parts.length === 0 && this.answer.calls.length === 0;
  }

  /* Tokens per second: the server's number, else pieces over time (a piece is a token or a few). */
  get speed() {
    if (this.timings && this.timings.predicted_per_second) {
      return this.timings.predicted_per_second;
    }
    const ms = performance.now() - this.first;
    return this.first && ms > 200 ? ((this.tokens - 1) * 1000) / ms : 0;
  }

  /* sent: what was asked for beside the conversation, in words */
  end(context, sent) {
    this.draw();
    const usage = this.usage || {};
    const { prompt_tokens_details: details = {}, completion_tokens_details: output = {} } = usage;
    const timings = this.timings || {};
    this.answer.receipt = {
      finish: this.answer.finish,
      prompt_tokens: usage.prompt_tokens,
      cached_tokens: (details && details.cached_tokens) || 0,
      completion_tokens: usage.completion_tokens ?? (this.tokens || undefined),
      reasoning_tokens: (output && output.reasoning_tokens) || undefined,
      context: context || undefined,
      first_ms: this.first ? this.first - this.started : undefined,
      total_ms: performance.now() - this.started,
      predicted_per_second: this.speed || undefined,
      prompt_per_second: timings.prompt_per_second || undefined,
      queue_ms: timings.queue_ms || undefined,
      draft_n: timings.draft_n, draft_n_accepted: timings.draft_n_accepted,
      cache_miss: timings.cache_miss,
      sent,
      ...this.facts,
    };
  }
}

/* ------------------------------------------------------------------ the page */

class App {
  constructor() {
    this.store = new Store(localStorage);
    this.settings = new Settings(localStorage);
    this.models = new Models(() => this.modelChosen());
    this.chat = newChat();
    this.run = null;
    this.follow = true; // the end of the conversation stays in sight
    this.top = 0; // where the conversation was scrolled to
    this.editing = false; // the last message stands in the composer
    this.input = byId('input');
    this.pictures = new Pictures((text) => this.say(text));
    this.list = byId('messages');
    this.actions = {
      retry: () => this.retry(),
      edit: () => this.edit(),
      results: () => this.sendResults(),
      version: (message, step) => this.showVersion(message, step),
      key: () => this.openDialog('key-dialog'),
    };
  }

  get key() {
    return sessionStorage.getItem(KEY) || '';
  }

  /* ---- models ---- */

  async loadModels() {
    const state = byId('server-state');
    try {
      const rows = await listModels(this.key);
      this.models.take(rows, await listRunning(this.key));
      this.models.choose(localStorage.getItem('slm.model'));
      state.textContent = rows.length > 0 ? '' : 'The server has no model. slm pull fetches one.';
    } catch (e) {
      state.textContent = e.message;
      if (e.status === 401) {
        this.openDialog('key-dialog');
      }
    }
    state.hidden = state.textContent === '';
    this.modelChosen(false);
  }

  modelChosen(chosen = true) {
    const model = this.models.current;
    if (model && chosen) {
      localStorage.setItem('slm.model', model.id);
    }
    this.pictures.allow(Boolean(model && model.images), model && model.title);
    this.showContext();
    this.showEmpty();
    this.models.fillTable(byId('model-rows'), (one) => {
      this.models.choose(one.id);
      this.modelChosen();
      byId('models-dialog').close();
    });
  }

  showContext() {
    const model = this.models.current;
    const size = model ? model.context || model.contextMost : 0;
    const last = this.chat.messages.findLast((message) => message.role === 'assistant' && shownAnswer(message).receipt);
    const receipt = last && shownAnswer(last).receipt;
    const used = receipt ? (receipt.prompt_tokens || 0) + (receipt.completion_tokens || 0) : 0;
    const box = byId('context');
    box.hidden = !size;
    if (size) {
      byId('context-words').textContent = `${count(used)} / ${count(size)}`;
      const meter = byId('context-meter');
      meter.max = size;
      meter.value = Math.min(used, size);
      meter.classList.toggle('full', used > 0.9 * size);
      box.title = `${count(used)} of ${count(size)} tokens of the context are used`;
    }
  }

  showEmpty() {
    const empty = this.chat.messages.length === 0;
    const model = this.models.current;
    byId('empty').hidden = !empty;
    document.body.classList.toggle('is-empty', empty);
    const facts = !model ? [] : [
      model.context ? `context of ${count(model.context)} tokens` : '',
      { no: 'does not think', always: 'always thinks', 'can be switched': 'thinking can be switched' }[model.think],
      model.tools === 'yes' ? 'calls tools' : '',
      model.images ? 'sees pictures' : '',
    ].filter(Boolean);
    byId('empty-model').textContent = model ? model.title : 'slm';
    byId('empty-facts').textContent = facts.length > 0 ? `${facts.join(', ')}.` : '';
  }

  /* ---- conversations ---- */

  show(chat) {
    this.stop();
    this.endEdit();
    this.chat = chat;
    this.render();
    this.showChats();
    this.scrollDown(true);
  }

  render() {
    this.view = renderChat(this.list, this.chat, this.actions);
    this.showEmpty();
    this.showContext();
    document.title = this.chat.messages.length > 0 ? `${titleOf(this.chat)} – slm` : 'slm';
  }

  showChats() {
    const list = byId('chats');
    list.replaceChildren(...this.store.all().map((chat) => {
      const here = chat.id === this.chat.id;
      return el('li', {},
        button(chat.title, () => {
          this.show(this.store.load(chat.id) || newChat());
          this.closePanels();
          this.input.focus();
        }, { class: 'chat', 'aria-current': here ? 'true' : null, title: chat.title }),
        button('×', (event) => this.removeChat(chat, event.currentTarget), {
          class: 'plain delete', 'aria-label': `Delete ${chat.title}`,
        }));
    }));
    byId('chats-none').hidden = list.childElementCount > 0;
    byId('export').disabled = list.childElementCount === 0;
  }

  /* Asks by changing its button; a second press deletes. */
  removeChat(chat, trigger) {
    if (trigger.dataset.sure !== 'yes') {
      trigger.dataset.sure = 'yes';
      trigger.textContent = 'Delete?';
      trigger.addEventListener('blur', () => {
        trigger.dataset.sure = '';
        trigger.textContent = '×';
      }, { once: true });
      announce(`Press again to delete ${chat.title}.`);
      return;
    }
    this.store.remove(chat.id);
    announce('Deleted.');
    if (chat.id === this.chat.id) {
      this.show(newChat());
    } else {
      this.showChats();
    }
    byId('new-chat').focus();
  }

  save() {
    this.chat.changed = Date.now();
    this.chat.title = titleOf(this.chat);
    try {
      this.store.save(this.chat);
    } catch {
      this.say('The browser has no room left for conversations: this one is not kept. Export and delete some.');
    }
    this.showChats();
  }

  newChat() {
    this.show(newChat());
    this.closePanels();
    this.input.focus();
  }

  /* ---- sending ---- */

  /* A line above the composer, also spoken. */
  say(text) {
    const line = byId('notice');
    line.textContent = text;
    line.hidden = text === '';
  }

  submit() {
    const text = this.input.value.trim();
    if (this.run || (text === '' && this.pictures.parts.length === 0) || !this.ready()) {
      return;
    }
    const parts = [...this.pictures.take(), textPart(text)];
    if (this.editing) {
      const at = this.chat.messages.findLastIndex((message) => message.role === 'user');
      this.chat.messages.length = at;
      this.endEdit();
    }
    this.chat.messages.push({ role: 'user', parts });
    this.input.value = '';
    this.fit();
    this.answerNow();
  }

  /* Whether a request can be made; says why not. */
  ready() {
    const wrong = this.settings.wrong();
    if (wrong) {
      this.openPanel('settings');
      wrong.focus();
      this.say('One of the settings cannot be sent.');
      return false;
    }
    if (!this.models.current) {
      this.say('There is no model to ask.');
      this.loadModels();
      return false;
    }
    this.say('');
    return true;
  }

  retry() {
    const last = this.chat.messages[this.chat.messages.length - 1];
    if (this.run || !last || last.role !== 'assistant' || !this.ready()) {
      return;
    }
    this.endEdit();
    this.answerNow(last);
  }

  edit() {
    const at = this.chat.messages.findLastIndex((message) => message.role === 'user');
    if (this.run || at < 0) {
      return;
    }
    this.editing = true;
    document.body.classList.add('is-editing');
    byId('editing').hidden = false;
    this.list.children[at].classList.add('edited');
    this.input.value = textOf(this.chat.messages[at].parts);
    this.pictures.set(this.chat.messages[at].parts.filter(pictureUrl));
    this.fit();
    this.input.focus();
    this.input.setSelectionRange(this.input.value.length, this.input.value.length);
    announce('Editing the last message. Escape leaves it as it is.');
  }

  endEdit() {
    if (this.editing) {
      this.editing = false;
      this.input.value = '';
      this.pictures.set([]);
      this.fit();
      byId('editing').hidden = true;
      document.body.classList.remove('is-editing');
      this.list.querySelectorAll('.edited').forEach((node) => node.classList.remove('edited'));
    }
  }

  sendResults() {
    const areas = [...this.list.querySelectorAll('textarea.result')];
    const empty = areas.find((area) => area.value.trim() === '');
    if (this.run || areas.length === 0) {
      return;
    }
    if (empty) {
      this.say('Each call wants a result.');
      empty.focus();
      return;
    }
    if (this.ready()) {
      for (const area of areas) {
        this.chat.messages.push({
          role: 'tool', call: area.dataset.call, name: area.dataset.name, parts: [textPart(area.value)],
        });
      }
      this.answerNow();
    }
  }

  showVersion(message, step) {
    message.shown = Math.max(0, Math.min(message.versions.length - 1, message.shown + step));
    this.save();
    this.render();
    const name = step < 0 ? 'Answer before' : 'Answer after';
    const again = this.list.lastElementChild.querySelector(`[aria-label="${name}"]:not(:disabled)`) ||
      this.list.lastElementChild.querySelector('.versions button:not(:disabled)');
    if (again) {
      again.focus();
    }
    announce(`Answer ${message.shown + 1} of ${message.versions.length}.`);
  }

  /* Asks for an answer to the conversation; `again`: a message whose next version it is. */
  async answerNow(again = null) {
    const model = this.models.current;
    const answer = newAnswer(model.id);
    const { chat } = this;
    const before = again ? { ...chat, messages: chat.messages.slice(0, chat.messages.indexOf(again)) } : chat;
    const body = this.settings.apply({
      model: model.id, messages: wire(before, this.settings.system), stream: true,
      stream_options: { include_usage: true }, return_progress: true, timings_per_token: true,
    });
    const message = again || { role: 'assistant', versions: [], shown: 0 };
    message.versions.push(answer);
    message.shown = message.versions.length - 1;
    if (!again) {
      chat.messages.push(message);
    }
    this.save();
    this.render();
    const view = new AnswerView(message, this.actions, true);
    this.list.lastElementChild.replaceWith(view.node);
    const run = new Run(view, answer, new Speaker(), () => this.scrollDown());
    this.run = run;
    this.busy(true);
    view.waiting({ words: model.loaded ? 'Waiting for the first word…' : `Waiting for ${model.id}…` });
    this.scrollDown(true);
    const ticks = setInterval(() => this.tick(run), 200);
    try {
      await streamChat(body, this.key, run.abort.signal, run);
      run.draw();
    } catch (e) {
      run.draw();
      if (e.name === 'AbortError') {
        answer.finish = 'stopped';
      } else {
        answer.error = {
          message: e.message, status: e.status || 0, code: e.code || '', param: e.param || '',
          retryMs: e.retryMs || 0, request: e.request || '',
        };
        if (!(e instanceof ServerError)) {
          console.error(e);
        }
      }
    }
    clearInterval(ticks);
    run.speaker.end();
    if (!answer.error || run.tokens > 0) {
      run.end(model.context, this.settings.words);
    }
    view.finish([]);
    if (this.run === run) {
      this.run = null;
      this.busy(false);
    }
    this.settle(chat, view, answer, model);
  }

  /* After an answer: what is kept, said and shown of it. */
  settle(chat, view, answer, model) {
    if (chat === this.chat) {
      this.save();
      this.showContext();
      this.scrollDown();
      byId('live').textContent = '';
    } else {
      try {
        this.store.save(chat);
      } catch {
        // said at the conversation's own saving
      }
    }
    if (answer.calls.length > 0) {
      announce(`The model calls ${answer.calls.map((call) => call.name).join(', ')}.`);
    }
    announce(answer.error ? `Error: ${answer.error.message}` : answer.finish === 'stopped' ? 'Stopped.' : 'The answer is complete.');
    if (answer.error && answer.error.status === 401) {
      this.openDialog('key-dialog');
    }
    if (!model.loaded) {
      this.loadModels();
    }
  }

  tick(run) {
    const speed = run.speed;
    const left = run.thinks ? 'thinking' : run.first ? 'writing' : 'waiting';
    byId('live').textContent = [left, run.tokens ? `${count(run.tokens)} tokens` : '',
      speed ? `${speed.toFixed(1)} tokens/s` : '', seconds(performance.now() - run.started)].filter(Boolean).join(' · ');
    if (run.thinks) {
      run.view.thoughts(true, performance.now() - run.thinkFrom);
      if (!run.saidThinking) {
        run.saidThinking = true;
        announce('The model is thinking.');
      }
    }
  }

  stop() {
    if (this.run) {
      this.run.abort.abort();
    }
  }

  busy(on) {
    document.body.classList.toggle('is-busy', on);
    byId('send').hidden = on;
    byId('stop').hidden = !on;
    this.list.setAttribute('aria-busy', String(on));
    // the button that was pressed is gone: do not lose the place
    if (document.activeElement === document.body) {
      this.input.focus();
    }
  }

  /* ---- looks ---- */

  /* Follows the end of the conversation unless the reader has gone up. */
  scrollDown(always = false) {
    const box = byId('scroller');
    if (always) {
      this.follow = true;
    }
    if (this.follow) {
      box.scrollTop = box.scrollHeight;
      this.top = box.scrollTop;
    }
    byId('down').hidden = this.follow || box.scrollHeight - box.scrollTop - box.clientHeight < 80;
  }

  scrolled() {
    const box = byId('scroller');
    const top = box.scrollTop;
    if (top < this.top) {
      this.follow = false;
    } else if (top > this.top && box.scrollHeight - top - box.clientHeight < 40) {
      this.follow = true;
      byId('down').hidden = true;
    }
    this.top = top;
  }

  /* The composer is as high as its text, within limits of the style. */
  fit() {
    this.input.style.height = 'auto';
    this.input.style.height = `${this.input.scrollHeight + 2}px`;
  }

  theme(step) {
    const at = THEMES.indexOf(localStorage.getItem('slm.theme') || 'auto');
    const now = THEMES[(Math.max(at, 0) + step) % THEMES.length];
    localStorage.setItem('slm.theme', now);
    document.documentElement.dataset.theme = now;
    byId('theme').textContent = `Theme: ${{ auto: 'as the system', light: 'light', dark: 'dark' }[now]}`;
  }

  /* ---- panels: side (conversations), settings ---- */

  openPanel(name) {
    document.body.classList.add(`show-${name}`);
    byId(`open-${name}`).setAttribute('aria-expanded', 'true');
    if (!isWide()) {
      document.body.classList.remove(name === 'side' ? 'show-settings' : 'show-side');
    }
    byId(name).querySelector('button, input, textarea, select').focus();
  }

  closePanel(name) {
    if (document.body.classList.contains(`show-${name}`)) {
      const inside = byId(name).contains(document.activeElement);
      document.body.classList.remove(`show-${name}`);
      byId(`open-${name}`).setAttribute('aria-expanded', 'false');
      if (inside) {
        byId(`open-${name}`).focus();
      }
      return true;
    }
    return false;
  }

  togglePanel(name) {
    return this.closePanel(name) || this.openPanel(name);
  }

  /* What lies over the conversation on narrow screens. */
  closePanels() {
    if (!isWide()) {
      this.closePanel('side');
    }
  }

  openDialog(id) {
    const dialog = byId(id);
    if (!dialog.open) {
      this.closePanels();
      dialog.showModal();
    }
  }

  openModels() {
    this.openDialog('models-dialog');
    this.loadModels();
  }

  /* ---- export, import ---- */

  export() {
    const url = URL.createObjectURL(new Blob([this.store.exported()], { type: 'application/json' }));
    const link = el('a', { href: url, download: `slm-chats-${new Date().toISOString().slice(0, 10)}.json` });
    link.click();
    setTimeout(() => URL.revokeObjectURL(url), 1000);
  }

  async import(file) {
    try {
      const n = this.store.import(await file.text());
      this.say(`${count(n)} ${n === 1 ? 'conversation' : 'conversations'} imported.`);
    } catch (e) {
      this.say(e.name === 'QuotaExceededError' ? 'The browser has no room for all of these conversations.' : e.message);
    }
    this.showChats();
  }
}

/* ------------------------------------------------------------------ wiring */

function escape(app, event) {
  if (document.querySelector('dialog[open]')) {
    return; // the browser closes it
  }
  if (app.run) {
    app.stop();
  } else if (app.editing) {
    app.endEdit();
    app.input.focus();
  } else if (!app.closePanel('settings') && !app.closePanel('side')) {
    return;
  }
  event.preventDefault();
}

function keys(app) {
  const withAlt = {
    KeyN: () => app.newChat(), KeyR: () => app.retry(), KeyE: () => app.edit(), KeyS: () => app.togglePanel('settings'),
    KeyM: () => app.openModels(), KeyC: () => app.togglePanel('side'),
  };
  document.addEventListener('keydown', (event) => {
    const typing = event.target.matches('input, textarea, select');
    if (event.key === 'Escape') {
      escape(app, event);
    } else if (event.altKey && !event.ctrlKey && !event.metaKey && withAlt[event.code] &&
      !document.querySelector('dialog[open]')) {
      event.preventDefault();
      withAlt[event.code]();
    } else if (event.key === '/' && !typing) {
      event.preventDefault();
      app.input.focus();
    } else if (event.key === '?' && !typing) {
      app.openDialog('keys-dialog');
    }
  });
  app.input.addEventListener('keydown', (event) => {
    const touch = matchMedia('(pointer: coarse)').matches;
    if (event.key === 'Enter' && !event.isComposing && (event.ctrlKey || event.metaKey || (!event.shiftKey && !touch))) {
      event.preventDefault();
      app.submit();
    } else if (event.key === 'ArrowUp' && app.input.value === '' && app.chat.messages.length > 0) {
      event.preventDefault();
      app.edit();
    }
  });
}

function keyForm(app) {
  const field = byId('key');
  byId('key-form').addEventListener('submit', (event) => {
    event.preventDefault();
    const key = field.value.trim();
    field.value = '';
    if (key) {
      sessionStorage.setItem(KEY, key);
    } else {
      sessionStorage.removeItem(KEY);
    }
    byId('key-dialog').close();
    app.loadModels();
    app.input.focus();
  });
}

function start() {
  const app = new App();
  const on = (id, event, f) => byId(id).addEventListener(event, f);
  on('composer', 'submit', (event) => {
    event.preventDefault();
    app.submit();
  });
  on('settings-form', 'submit', (event) => event.preventDefault());
  on('input', 'input', () => app.fit());
  on('stop', 'click', () => app.stop());
  on('down', 'click', () => app.scrollDown(true));
  on('scroller', 'scroll', () => app.scrolled());
  byId('scroller').addEventListener('wheel', (event) => {
    app.follow &&= event.deltaY >= 0;
  }, { passive: true });
  on('new-chat', 'click', () => app.newChat());
  on('cancel-edit', 'click', () => {
    app.endEdit();
    app.input.focus();
  });
  on('open-side', 'click', () => app.togglePanel('side'));
  on('open-settings', 'click', () => app.togglePanel('settings'));
  on('close-settings', 'click', () => app.closePanel('settings'));
  on('close-side', 'click', () => app.closePanel('side'));
  on('shade', 'click', () => app.closePanel('side') || app.closePanel('settings'));
  on('clear-settings', 'click', () => app.settings.clear());
  on('open-models', 'click', () => app.openModels());
  on('open-key', 'click', () => app.openDialog('key-dialog'));
  on('open-keys', 'click', () => app.openDialog('keys-dialog'));
  on('theme', 'click', () => app.theme(1));
  on('export', 'click', () => app.export());
  on('import', 'click', () => byId('import-file').click());
  on('import-file', 'change', async (event) => {
    const [file] = event.target.files;
    if (file) {
      await app.import(file);
    }
    event.target.value = '';
  });
  document.querySelectorAll('dialog .close').forEach((node) =>
    node.addEventListener('click', () => node.closest('dialog').close()));
  app.list.addEventListener('click', (event) => {
    const copy = event.target.closest('button.copy');
    if (copy) {
      copyText(copy.closest('.code').querySelector('pre').textContent, copy);
    }
  });
  byId('examples').replaceChildren(...EXAMPLES.map((text) => el('li', {}, button(text, () => {
    app.input.value = text;
    app.fit();
    app.input.focus();
  }, { class: 'example' }))));
  // what has come of an answer is kept when the page goes away under it
  window.addEventListener('pagehide', () => app.run && app.save());
  window.addEventListener('storage', () => app.showChats());
  keys(app);
  keyForm(app);
  wirePictures(app.pictures, app.input);
  app.theme(0);
  app.show(app.store.all()[0] && location.hash === '#last' ? app.store.all()[0] : newChat());
  app.loadModels();
  app.input.focus();
}

start();
