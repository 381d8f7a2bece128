/* chats.js - conversations: their shape, where they are kept, what is sent of them.
 *
 * chat     { id, title, created, changed, messages }
 * message  { role: 'user', parts }
 *          { role: 'assistant', versions: [answer], shown }   the answers that retrying gave
 *          { role: 'tool', call, name, parts }                the result of a call
 * parts    [{ type: 'text', text }]                           other types are kept and sent as they are
 * answer   { parts, reasoning, thinkMs, calls: [{ id, name, arguments }], model, finish, receipt, error }
 *
 * Everything stays in this browser (localStorage): a list of ids and one entry for each conversation. */

const LIST = 'slm.chats';
const ONE = 'slm.chat.';
const FORMAT = 'slm-chats';

export const textPart = (text) => ({ type: 'text', text });
export const textOf = (parts) => parts.filter((part) => part.type === 'text').map((part) => part.text).join('\n');
export const shownAnswer = (message) => message.versions[message.shown];

export function newAnswer(model) {
  return { parts: [], reasoning: '', thinkMs: 0, calls: [], model, finish: '', receipt: null, error: null };
}

const newId = () => Array.from(crypto.getRandomValues(new Uint8Array(9)), (b) => b.toString(36).padStart(2, '0')).join('');

export function newChat() {
  const now = Date.now();
  return { id: newId(), title: '', created: now, changed: now, messages: [] };
}

export function titleOf(chat) {
  const first = chat.messages.find((message) => message.role === 'user');
  const text = first ? textOf(first.parts).trim().replace(/\s+/g, ' ') : '';
  return text.length > 60 ? `${text.slice(0, 59)}…` : text || 'New conversation';
}

/* Messages as the chat API wants them. Answers that failed before they had anything are left out. */
export function wire(chat, system) {
  const out = system ? [{ role: 'system', content: system }] : [];
  const content = (parts) => (parts.every((part) => part.type === 'text') ? textOf(parts) : parts);
  for (const message of chat.messages) {
    if (message.role === 'tool') {
      out.push({ role: 'tool', tool_call_id: message.call, content: content(message.parts) });
    } else if (message.role === 'user') {
      out.push({ role: 'user', content: content(message.parts) });
    } else {
      const answer = shownAnswer(message);
      const text = textOf(answer.parts);
      if (!text && answer.calls.length === 0 && !answer.reasoning) {
        continue;
      }
      const sent = { role: 'assistant', content: text };
      if (answer.reasoning) {
        sent.reasoning_content = answer.reasoning;
      }
      if (answer.calls.length > 0) {
        sent.tool_calls = answer.calls.map((call) => ({
          id: call.id, type: 'function', function: { name: call.name, arguments: call.arguments },
        }));
      }
      out.push(sent);
    }
  }
  return out;
}

/* ------------------------------------------------------------------ what comes from outside */

const isText = (v) => typeof v === 'string';
const isObject = (v) => typeof v === 'object' && v !== null && !Array.isArray(v);

function readParts(value) {
  if (isText(value)) {
    return [textPart(value)];
  }
  if (!Array.isArray(value)) {
    return [];
  }
  return value.filter((part) => isObject(part) && isText(part.type) && (part.type !== 'text' || isText(part.text)));
}

function readAnswer(value) {
  const answer = newAnswer(isText(value.model) ? value.model : '');
  answer.parts = readParts(value.parts === undefined ? value.content : value.parts);
  answer.reasoning = [value.reasoning, value.reasoning_content].find(isText) || '';
  answer.thinkMs = Number.isFinite(value.thinkMs) ? value.thinkMs : 0;
  answer.finish = isText(value.finish) ? value.finish : '';
  answer.receipt = isObject(value.receipt) ? value.receipt : null;
  answer.error = isObject(value.error) && isText(value.error.message) ? value.error : null;
  for (const call of [].concat(value.calls || value.tool_calls || [])) {
    const f = isObject(call) && isObject(call.function) ? call.function : call;
    if (isObject(call) && isText(f.name)) {
      answer.calls.push({
        id: isText(call.id) ? call.id : '', name: f.name, arguments: isText(f.arguments) ? f.arguments : '{}',
      });
    }
  }
  return answer;
}

function readMessage(value) {
  if (!isObject(value)) {
    return null;
  }
  if (value.role === 'user') {
    return { role: 'user', parts: readParts(value.parts === undefined ? value.content : value.parts) };
  }
  if (value.role === 'tool') {
    return {
      role: 'tool', call: [value.call, value.tool_call_id].find(isText) || '', name: isText(value.name) ? value.name : '',
      parts: readParts(value.parts === undefined ? value.content : value.parts),
    };
  }
  if (value.role !== 'assistant') {
    return null;
  }
  const versions = (Array.isArray(value.versions) ? value.versions : [value]).filter(isObject).map(readAnswer);
  const shown = Number.isInteger(value.shown) && value.shown >= 0 && value.shown < versions.length ? value.shown
    : versions.length - 1;
  return versions.length > 0 ? { role: 'assistant', versions, shown } : null;
}

/* A conversation out of untrusted data, or null. Takes the shape above and OpenAI's {messages}. */
export function readChat(value) {
  if (!isObject(value) || !Array.isArray(value.messages)) {
    return null;
  }
  const chat = newChat();
  chat.id = isText(value.id) && /^[a-z0-9]{1,40}$/.test(value.id) ? value.id : chat.id;
  chat.created = Number.isFinite(value.created) ? value.created : chat.created;
  chat.changed = Number.isFinite(value.changed) ? value.changed : chat.changed;
  chat.messages = value.messages.map(readMessage).filter(Boolean);
  chat.title = isText(value.title) && value.title ? value.title.slice(0, 200) : titleOf(chat);
  return chat;
}

/* All conversations of an exported file; throws an Error that says what is wrong with it. */
export function readExport(text) {
  let value;
  try {
    value = JSON.parse(text);
  } catch (e) {
    throw new Error(`This file is not JSON: ${e.message}`);
  }
  const list = isObject(value) && Array.isArray(value.chats) ? value.chats : [].concat(value);
  const chats = list.map(readChat).filter((chat) => chat && chat.messages.length > 0);
  if (chats.length === 0) {
    throw new Error('There is no conversation in this file.');
  }
  return chats;
}

/* ------------------------------------------------------------------ keeping */

export class Store {
  constructor(storage) {
    this.storage = storage;
  }

  ids() {
    try {
      const list = JSON.parse(this.storage.getItem(LIST) || '[]');
      return Array.isArray(list) ? list.filter(isText) : [];
    } catch {
      return [];
    }
  }

  load(id) {
    try {
      const chat = readChat(JSON.parse(this.storage.getItem(ONE + id) || 'null'));
      if (chat) {
        chat.id = id;
      }
      return chat;
    } catch {
      return null;
    }
  }

  /* Newest first. */
  all() {
    return this.ids().map((id) => this.load(id)).filter(Boolean).sort((a, b) => b.changed - a.changed);
  }

  /* Throws when the browser has no room left. */
  save(chat) {
    this.storage.setItem(ONE + chat.id, JSON.stringify(chat));
    const ids = this.ids();
    if (!ids.includes(chat.id)) {
      this.storage.setItem(LIST, JSON.stringify([chat.id, ...ids]));
    }
  }

  remove(id) {
    this.storage.setItem(LIST, JSON.stringify(this.ids().filter((one) => one !== id)));
    this.storage.removeItem(ONE + id);
  }

  exported() {
    return JSON.stringify({ format: FORMAT, version: 1, chats: this.all() }, null, 1);
  }

  /* Number of conversations taken. One that is here already under its id comes beside it. */
  import(text) {
    const chats = readExport(text);
    const here = new Set(this.ids());
    for (const chat of chats) {
      if (here.has(chat.id)) {
        chat.id = newChat().id;
      }
      here.add(chat.id);
      this.save(chat);
    }
    return chats.length;
  }
}
