/* fake_dom.mjs - as much of a document as markdown.js uses, for tests without a browser. */
class Node {
  constructor(doc) {
    this.ownerDocument = doc;
    this.parent = null;
  }

  remove() {
    if (this.parent) {
      this.parent.children.splice(this.parent.children.indexOf(this), 1);
      this.parent = null;
    }
  }
}

class Text extends Node {
  constructor(doc, data) {
    super(doc);
    this.data = data;
  }

  get html() {
    return this.data.replaceAll('&', '&amp;').replaceAll('<', '&lt;');
  }
}

class Element extends Node {
  constructor(doc, name) {
    super(doc);
    this.name = name;
    this.attributes = {};
    this.children = [];
  }

  append(...nodes) {
    for (const node of nodes) {
      node.remove();
      node.parent = this;
      this.children.push(node);
    }
  }

  setAttribute(name, value) {
    this.attributes[name] = value;
  }

  get firstChild() {
    return this.children[0] || null;
  }

  get lastChild() {
    return this.children[this.children.length - 1] || null;
  }

  /* Text nodes beside each other are one text, as for a reader. */
  get inner() {
    return this.children.map((child) => child.html).join('');
  }

  get html() {
    const attributes = Object.entries(this.attributes).map(([k, v]) => ` ${k}="${v}"`).join('');
    return `<${this.name}${attributes}>${this.inner}</${this.name}>`;
  }
}

export const fakeDocument = {
  createElement: (name) => new Element(fakeDocument, name),
  createTextNode: (text) => new Text(fakeDocument, String(text)),
};
export const root = () => fakeDocument.createElement('div');
