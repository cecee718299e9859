/* Elements are made once and then only told what changed: focus, open details and selections stay. */

export function element(tag, options = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(options)) {
    if (name === "text") node.textContent = value;
    else node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

export function tell(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/* A sentence in which what can be typed, a flag with its value, is set as code and never broken over lines. */
export function explain(node, sentence) {
  if (node.textContent === sentence) return;
  const parts = sentence.split(/(--[a-z][\w.-]*\w(?: \d[\w.]*\w| N\b)?)/);
  node.replaceChildren(...parts.map((part, place) => (place % 2 ? element("code", { text: part }) : part)));
}

export function set(node, name, value) {
  if (node.getAttribute(name) !== value) node.setAttribute(name, value);
}

/* Keeps one part per name under a parent, in the order of the names: makes what is new, removes what is gone. */
export class Parts {
  constructor(parent, make) {
    this.parent = parent;
    this.make = make;
    this.byName = new Map();
  }

  follow(names) {
    for (const [name, part] of this.byName) {
      if (names.includes(name)) continue;
      part.node.remove();
      this.byName.delete(name);
    }
    names.forEach((name, place) => {
      if (!this.byName.has(name)) this.byName.set(name, this.make(name));
      const { node } = this.byName.get(name);
      if (this.parent.children[place] !== node) this.parent.insertBefore(node, this.parent.children[place] ?? null);
    });
  }

  get(name) {
    return this.byName.get(name);
  }
}
