/* dom.js - elements without markup: everything on the page is made by these few functions, text
 * always as text. */

/* el('button', { class: 'x', type: 'button', onclick: f }, 'words', other): attributes by their names,
 * on* as listeners, true as an empty attribute, null and false left out. */
export function el(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) {
      continue;
    }
    if (key.startsWith('on')) {
      node.addEventListener(key.slice(2), value);
    } else {
      node.setAttribute(key, value === true ? '' : String(value));
    }
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

export const byId = (id) => document.getElementById(id);

export const button = (label, onclick, attributes = {}) =>
  el('button', { type: 'button', onclick, ...attributes }, label);

/* Numbers as the reader writes them; sizes in powers of 1024, like the rest of the program. */
export const count = (n) => Number(n).toLocaleString();
export function bytes(n) {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let i = 0;
  for (; n >= 1024 && i < units.length - 1; i++) {
    n /= 1024;
  }
  return `${n < 10 && i > 0 ? n.toFixed(1) : Math.round(n)} ${units[i]}`;
}
export const seconds = (ms) =>
  ms < 995 ? `${Math.round(ms)} ms` : ms < 9950 ? `${(ms / 1000).toFixed(1)} s`
    : ms < 90000 ? `${Math.round(ms / 1000)} s`
      : `${Math.floor(ms / 60000)} min ${Math.round(ms / 1000) % 60} s`;

/* For screen readers: whole sentences, one after another, in a region that is read politely. Old ones
 * are taken away so that the region never grows. */
export function announce(text) {
  const region = byId('spoken');
  region.append(el('p', {}, text));
  while (region.childElementCount > 8) {
    region.firstElementChild.remove();
  }
}

/* Collects streamed text and announces it sentence by sentence. */
export class Speaker {
  constructor() {
    this.rest = '';
  }

  write(text) {
    this.rest += text;
    let end = 0;
    for (let i = 0; i < this.rest.length; i++) {
      const c = this.rest[i];
      if (c === '\n' || ('.!?:;。！？'.includes(c) && /\s/.test(this.rest[i + 1] || ''))) {
        end = i + 1;
      }
    }
    if (end > 0 || this.rest.length > 400) {
      end = end || this.rest.length;
      this.say(this.rest.slice(0, end));
      this.rest = this.rest.slice(end);
    }
  }

  end() {
    this.say(this.rest);
    this.rest = '';
  }

  say(text) {
    const words = text.replace(/[*_`#|]+/g, ' ').trim();
    if (words) {
      announce(words);
    }
  }
}

export async function copyText(text, trigger) {
  let worked = true;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // plain http on another address than loopback has no clipboard: the old way
    const area = el('textarea', { class: 'unseen', readonly: true, 'aria-hidden': 'true' });
    area.value = text;
    document.body.append(area);
    area.select();
    worked = document.execCommand('copy');
    area.remove();
    trigger.focus();
  }
  const label = trigger.dataset.label || trigger.textContent;
  trigger.dataset.label = label;
  trigger.textContent = worked ? 'Copied' : 'Not copied';
  announce(worked ? 'Copied.' : 'The browser did not allow copying.');
  setTimeout(() => {
    trigger.textContent = label;
  }, 1500);
}
