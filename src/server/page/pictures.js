/* pictures.js - pictures that go with the next message: dropped, pasted or chosen, shown below the field.
 *
 * A large picture is made smaller here, to twice the side that models see at most: a message is kept in the
 * browser and sent with every turn. */
import { announce, byId, button, el } from './dom.js';

const KINDS = ['image/jpeg', 'image/png', 'image/webp'];
const SIDE = 1792;
const PLAIN = 1 << 20; // a file up to this size goes as it is
const MOST = 16;

const read = (blob) => new Promise((resolve, reject) => {
  const reader = new FileReader();
  reader.onload = () => resolve(reader.result);
  reader.onerror = () => reject(new Error('The picture cannot be read.'));
  reader.readAsDataURL(blob);
});

/* The file, or a smaller picture of it. */
async function fitting(file) {
  if (file.size <= PLAIN) {
    return file;
  }
  const picture = await createImageBitmap(file);
  const scale = Math.min(1, SIDE / Math.max(picture.width, picture.height));
  const canvas = el('canvas', { width: Math.round(picture.width * scale), height: Math.round(picture.height * scale) });
  canvas.getContext('2d').drawImage(picture, 0, 0, canvas.width, canvas.height);
  picture.close();
  return new Promise((resolve) => {
    canvas.toBlob(resolve, 'image/jpeg', 0.92);
  });
}

export const picturePart = (url) => ({ type: 'image_url', image_url: { url } });
/* The picture of a part, when it is one that can be shown: data only, nothing is fetched. */
export function pictureUrl(part) {
  const url = part.type === 'image_url' ? (part.image_url || {}).url : null;
  return typeof url === 'string' && /^data:image\/(jpeg|png|webp);base64,[A-Za-z0-9+/=]+$/.test(url) ? url : null;
}

export class Pictures {
  /* say: shows a line to the person */
  constructor(say) {
    this.say = say;
    this.parts = [];
    this.list = byId('pictures');
    this.seen = false; // whether the model sees
  }

  /* The model changed. */
  allow(sees, title) {
    this.seen = sees;
    this.title = title;
    byId('add-picture').hidden = !sees;
  }

  set(parts) {
    this.parts = parts;
    this.show();
  }

  take() {
    const { parts } = this;
    this.set([]);
    return parts;
  }

  async add(files) {
    if (!this.seen) {
      this.say(`${this.title || 'This model'} reads text only: it cannot be shown a picture.`);
      return;
    }
    for (const file of files) {
      if (!KINDS.includes(file.type)) {
        this.say(`${file.name || 'The file'} is no JPEG, PNG or WebP picture.`);
      } else if (this.parts.length === MOST) {
        this.say(`A message holds ${MOST} pictures at most.`);
      } else {
        try {
          this.parts.push(picturePart(await read(await fitting(file))));
          announce('A picture goes with the message.');
        } catch {
          this.say(`${file.name || 'The picture'} cannot be read.`);
        }
      }
    }
    this.show();
  }

  show() {
    this.list.hidden = this.parts.length === 0;
    this.list.replaceChildren(...this.parts.map((part, i) => el('li', {},
      el('img', { src: pictureUrl(part), alt: `Picture ${i + 1} of the message` }),
      button('×', () => {
        this.parts.splice(i, 1);
        this.show();
        byId('input').focus();
      }, { class: 'icon', 'aria-label': `Leave out picture ${i + 1}` }))));
  }
}

/* Drops anywhere on the page, pasting into the field, and the button. */
export function wirePictures(pictures, input) {
  const file = byId('picture-file');
  byId('add-picture').addEventListener('click', () => file.click());
  file.addEventListener('change', async () => {
    await pictures.add([...file.files]);
    file.value = '';
    input.focus();
  });
  const holdsFiles = (event) => event.dataTransfer && [...event.dataTransfer.types].includes('Files');
  document.addEventListener('dragover', (event) => {
    if (holdsFiles(event)) {
      event.preventDefault();
      document.body.classList.add('is-dropping');
    }
  });
  document.addEventListener('dragleave', (event) => {
    if (!event.relatedTarget) {
      document.body.classList.remove('is-dropping');
    }
  });
  document.addEventListener('drop', (event) => {
    document.body.classList.remove('is-dropping');
    if (holdsFiles(event)) {
      event.preventDefault();
      pictures.add([...event.dataTransfer.files]);
      input.focus();
    }
  });
  input.addEventListener('paste', (event) => {
    const files = [...(event.clipboardData || { files: [] }).files];
    if (files.length > 0) {
      event.preventDefault();
      pictures.add(files);
    }
  });
}
