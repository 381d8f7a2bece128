/* settings.js - what a request may say besides the conversation: one table of fields gives the form,
 * what is kept, and what is sent. An empty field is not sent: the model's own value holds. */
import { byId, el } from './dom.js';

const KEPT = 'slm.settings';

const FIELDS = [
  {
    name: 'system', label: 'System prompt', kind: 'text', rows: 3,
    help: 'Stands in front of every conversation.',
  },
  {
    name: 'think', label: 'Thinking', kind: 'choice',
    options: [['', 'as the model does by itself'], ['on', 'on'], ['off', 'off']],
    help: 'A model that cannot switch answers with an error that says so.',
  },
  {
    name: 'budget', label: 'Thinking budget', kind: 'number', min: 1, step: 1, placeholder: 'in tokens',
    send: 'thinking_budget',
  },
  { name: 'temperature', label: 'Temperature', kind: 'number', min: 0, max: 2, step: 'any', send: 'temperature' },
  { name: 'top_p', label: 'Top p', kind: 'number', min: 0, max: 1, step: 'any', send: 'top_p' },
  { name: 'top_k', label: 'Top k', kind: 'number', min: 0, step: 1, send: 'top_k' },
  { name: 'min_p', label: 'Min p', kind: 'number', min: 0, max: 1, step: 'any', send: 'min_p' },
  {
    name: 'max_tokens', label: 'Longest answer', kind: 'number', min: 1, step: 1, placeholder: 'in tokens',
    send: 'max_tokens',
  },
  {
    name: 'seed', label: 'Seed', kind: 'number', min: 0, max: 4294967295, step: 1, send: 'seed',
    help: 'The same request with the same seed gives the same answer.',
  },
  {
    name: 'schema', label: 'JSON schema', kind: 'json', rows: 4,
    help: 'The answer will be JSON of this schema.',
    placeholder: '{"type": "object", "properties": {"city": {"type": "string"}}}',
  },
  {
    name: 'tools', label: 'Tools', kind: 'json', rows: 4,
    help: 'A JSON array of functions as OpenAI has them. The model may call them; you enter what they give.',
    placeholder: '[{"type": "function", "function": {"name": "get_weather", "parameters": {}}}]',
  },
];

export class Settings {
  constructor(storage) {
    this.storage = storage;
    this.values = {};
    try {
      const kept = JSON.parse(storage.getItem(KEPT) || '{}');
      for (const field of FIELDS) {
        if (typeof kept[field.name] === 'string') {
          this.values[field.name] = kept[field.name];
        }
      }
    } catch {
      // somebody else's value under our name: begin anew
    }
    this.controls = new Map();
    this.form = byId('settings-form');
    this.build();
  }

  build() {
    for (const field of FIELDS) {
      const id = `set-${field.name}`;
      const help = field.help ? el('p', { class: 'help', id: `${id}-help` }, field.help) : null;
      const wrong = el('p', { class: 'wrong', id: `${id}-wrong`, role: 'alert' });
      const common = {
        id, name: field.name, autocomplete: 'off', spellcheck: field.name === 'system' ? null : 'false',
        'aria-describedby': `${help ? `${id}-help ` : ''}${id}-wrong`, placeholder: field.placeholder,
      };
      let control;
      if (field.kind === 'choice') {
        control = el('select', common, ...field.options.map(([value, label]) => el('option', { value }, label)));
      } else if (field.kind === 'number') {
        control = el('input', {
          ...common, type: 'number', min: field.min, max: field.max, step: field.step,
          placeholder: field.placeholder || 'model’s own', inputmode: field.step === 1 ? 'numeric' : 'decimal',
        });
      } else {
        control = el('textarea', { ...common, rows: field.rows, class: field.kind === 'json' ? 'json' : null });
      }
      control.value = this.values[field.name] || '';
      control.addEventListener('input', () => this.changed(field, control, wrong));
      this.controls.set(field.name, { field, control, wrong });
      const place = field.kind === 'number' ? byId('settings-numbers') : byId(`settings-${field.kind}`);
      place.append(el('div', { class: 'field' }, el('label', { for: id }, field.label), control, help, wrong));
    }
  }

  changed(field, control, wrong) {
    this.values[field.name] = control.value;
    this.show(field, control, wrong);
    try {
      this.storage.setItem(KEPT, JSON.stringify(this.values));
    } catch {
      // a full or forbidden store: the values hold until the page is closed
    }
  }

  /* Why the field cannot be sent, or ''. */
  fault(field, control) {
    if (field.kind === 'number') {
      if (control.validity.badInput) {
        return 'This is not a number.';
      }
      return control.checkValidity() ? '' : control.validationMessage;
    }
    if (field.kind === 'json' && control.value.trim() !== '') {
      try {
        const value = JSON.parse(control.value);
        if (field.name === 'tools' && !Array.isArray(value)) {
          return 'This is JSON, but not an array.';
        }
        if (field.name === 'schema' && (typeof value !== 'object' || value === null || Array.isArray(value))) {
          return 'This is JSON, but not an object.';
        }
      } catch (e) {
        return `Not JSON: ${e.message}`;
      }
    }
    return '';
  }

  show(field, control, wrong) {
    const fault = this.fault(field, control);
    wrong.textContent = fault;
    control.setAttribute('aria-invalid', fault ? 'true' : 'false');
    return fault;
  }

  /* The first control that cannot be sent, with its fault shown; else null. */
  wrong() {
    let first = null;
    for (const { field, control, wrong } of this.controls.values()) {
      if (this.show(field, control, wrong) && !first) {
        first = control;
      }
    }
    return first;
  }

  get system() {
    return (this.values.system || '').trim();
  }

  /* What is set, in one line for the receipt; '' for nothing. */
  get words() {
    return FIELDS.filter((field) => (this.values[field.name] || '').trim() !== '').map((field) =>
      (field.kind === 'number' || field.kind === 'choice' ? `${field.label} ${this.values[field.name]}` : field.label)).join(', ');
  }

  /* Fields of the request. */
  apply(body) {
    for (const field of FIELDS) {
      const text = (this.values[field.name] || '').trim();
      if (text !== '' && field.send) {
        body[field.send] = Number(text);
      }
    }
    if (this.values.think) {
      body.chat_template_kwargs = { enable_thinking: this.values.think === 'on' };
    }
    if ((this.values.schema || '').trim()) {
      body.response_format = {
        type: 'json_schema',
        json_schema: { name: 'answer', strict: true, schema: JSON.parse(this.values.schema) },
      };
    }
    if ((this.values.tools || '').trim()) {
      body.tools = JSON.parse(this.values.tools);
    }
    return body;
  }

  clear() {
    for (const { field, control, wrong } of this.controls.values()) {
      control.value = '';
      this.changed(field, control, wrong);
    }
  }
}
