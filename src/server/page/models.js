/* models.js - the models of the server: what is known of each, the list to choose from, the table. */
import { bytes, byId, count, el } from './dom.js';

const numberOf = (...values) => values.find((v) => typeof v === 'number' && v > 0) || 0;
const textOf = (...values) => values.find((v) => typeof v === 'string' && v !== '') || '';

/* A row of GET /v1/models, and of /api/ps if it is loaded; what they do not say stays 0 or ''. Rows of
 * other servers have less. */
export function modelOf(row, running) {
  const meta = row.meta || {};
  const can = row.capabilities || {};
  const state = textOf(row.status && row.status.value);
  return {
    id: String(row.id),
    title: textOf(row.display_name, row.id, String(row.id)),
    quant: textOf(meta.quantization),
    context: numberOf(meta.n_ctx, row.max_model_len),
    contextMost: numberOf(meta.n_ctx_train),
    params: numberOf(meta.n_params),
    fileBytes: numberOf(meta.size),
    memoryBytes: running ? numberOf(running.size) : 0,
    think: can.thinking === undefined ? '' : !can.thinking ? 'no' : can.thinking_switch ? 'can be switched' : 'always',
    tools: can.tools === undefined ? '' : can.tools ? 'yes' : 'no',
    images: [].concat((row.architecture || {}).input_modalities || []).includes('image'),
    state,
    loaded: state === 'loaded',
  };
}

const stateWords = (model) => ({ loading: 'is being loaded', unloaded: 'on disk' })[model.state] || model.state;
const paramWords = (n) => (n >= 1e9 ? `${(n / 1e9).toFixed(1)} B` : n >= 1e6 ? `${Math.round(n / 1e6)} M` : count(n));

export class Models {
  constructor(onchoose) {
    this.list = [];
    this.select = byId('model');
    this.onchoose = onchoose;
    this.select.addEventListener('change', () => onchoose(this.current));
  }

  get current() {
    return this.list.find((model) => model.id === this.select.value) || null;
  }

  /* running: rows of /api/ps */
  take(rows, running = []) {
    const before = this.select.value;
    this.list = rows.map((row) => modelOf(row, running.find((one) => one.model === row.id)));
    this.select.replaceChildren(...this.list.map((model) =>
      el('option', { value: model.id }, model.id + (model.state === 'loading' ? ' (is being loaded)' : ''))));
    this.select.disabled = this.list.length === 0;
    this.choose(before);
  }

  /* That one if there is such, else the first that is loaded, else the first. */
  choose(id) {
    const found = this.list.find((model) => model.id === id) ||
      this.list.find((model) => model.loaded) || this.list[0];
    if (found) {
      this.select.value = found.id;
    }
  }

  /* The table, with a button in each row. */
  fillTable(body, use) {
    body.replaceChildren(...this.list.map((model) => {
      const here = model === this.current;
      const cell = (label, text) => el('td', { 'data-label': label }, text || '–');
      const size = [model.params && paramWords(model.params), model.quant,
        model.fileBytes && bytes(model.fileBytes)].filter(Boolean).join(' · ');
      const context = model.context
        ? count(model.context) + (model.contextMost > model.context ? ` of ${count(model.contextMost)}` : '')
        : model.contextMost ? count(model.contextMost) : '';
      return el('tr', here ? { class: 'here' } : {},
        el('th', { scope: 'row' }, model.id,
          model.title !== model.id ? el('span', { class: 'under' }, model.title) : null),
        cell('Size', size),
        cell('Context', context),
        cell('Thinking', model.think),
        cell('Tools', model.tools),
        cell('State', stateWords(model)),
        cell('Memory', model.memoryBytes ? bytes(model.memoryBytes) : ''),
        el('td', {}, el('button', {
          type: 'button', class: 'plain', 'aria-pressed': String(here),
          'aria-label': here ? `${model.id} is in use` : `Use ${model.id}`,
          onclick: () => use(model),
        }, here ? 'In use' : 'Use')));
    }));
  }
}
