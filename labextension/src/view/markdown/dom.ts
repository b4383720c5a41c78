/**
 * From a description to nodes, and from one description to the next with as few changes as can be: a node that stays
 * what it was stays the same node, so that a reader's selection survives. Elements and attributes come from closed
 * lists; text goes in as text.
 */

/** What may be made of a model's text. Nothing that runs, fetches or navigates by itself. */
export type Tag =
  | 'a'
  | 'blockquote'
  | 'br'
  | 'code'
  | 'del'
  | 'div'
  | 'em'
  | 'hr'
  | 'li'
  | 'ol'
  | 'p'
  | 'span'
  | 'strong'
  | 'table'
  | 'tbody'
  | 'td'
  | 'th'
  | 'thead'
  | 'tr'
  | 'ul';

/** `href` is only ever set from `links.address`. */
export type Attribute =
  | 'aria-label'
  | 'aria-level'
  | 'href'
  | 'referrerpolicy'
  | 'rel'
  | 'role'
  | 'scope'
  | 'start'
  | 'target'
  | 'title';

/** An element to be. */
export interface IElement {
  tag: Tag;
  className?: string;
  attributes?: Partial<Record<Attribute, string>>;
  children?: Drawn[];
}

/** A node that draws itself and keeps a state: a code block, a formula, an image. */
export interface IPart {
  part: string;
  make(): IPartNode;
  /** Gives it what it shows now. */
  set(part: IPartNode): void;
}

/** What a part is on the page. */
export interface IPartNode {
  readonly node: HTMLElement;
}

/** What can be drawn. */
export type Drawn = string | IElement | IPart;

const parts = new WeakMap<Node, { kind: string; part: IPartNode }>();
const drawn = new WeakMap<Node, IElement>();

/** Makes the children of `parent` from index `from` on what `next` says; those behind it go. */
export function patch(
  parent: Node,
  next: readonly Drawn[],
  from: number = 0
): void {
  let at: ChildNode | null = from === 0 ? parent.firstChild : nth(parent, from);
  for (const item of next) {
    if (at && fits(at, item)) {
      change(at, item);
      at = at.nextSibling;
    } else {
      const node = create(item);
      if (at) {
        const old: ChildNode = at;
        at = at.nextSibling;
        parent.replaceChild(node, old);
      } else {
        parent.appendChild(node);
      }
    }
  }
  while (at) {
    const gone: ChildNode = at;
    at = at.nextSibling;
    parent.removeChild(gone);
  }
}

/** The component that a node is, if it is one of this kind. */
export function partOf(node: Node): IPartNode | null {
  return parts.get(node)?.part ?? null;
}

/** Puts text into a text node; what is there already stays when it only grows. */
export function write(node: CharacterData, text: string): void {
  if (node.data === text) {
    return;
  }
  if (text.startsWith(node.data)) {
    node.appendData(text.slice(node.data.length));
  } else {
    node.data = text;
  }
}

function nth(parent: Node, index: number): ChildNode | null {
  const count = parent.childNodes.length;
  return index < count ? parent.childNodes[index] : null;
}

function fits(node: Node, item: Drawn): boolean {
  if (typeof item === 'string') {
    return node.nodeType === Node.TEXT_NODE;
  }
  if ('part' in item) {
    return parts.get(node)?.kind === item.part;
  }
  return drawn.get(node)?.tag === item.tag;
}

function create(item: Drawn): Node {
  if (typeof item === 'string') {
    return document.createTextNode(item);
  }
  if ('part' in item) {
    const part = item.make();
    parts.set(part.node, { kind: item.part, part });
    item.set(part);
    return part.node;
  }
  const node = document.createElement(item.tag);
  dress(node, { tag: item.tag }, item);
  drawn.set(node, item);
  if (item.children?.length) {
    patch(node, item.children);
  }
  return node;
}

function change(node: ChildNode, item: Drawn): void {
  if (typeof item === 'string') {
    write(node as Text, item);
    return;
  }
  if ('part' in item) {
    item.set(parts.get(node)!.part);
    return;
  }
  const before = drawn.get(node)!;
  dress(node as HTMLElement, before, item);
  drawn.set(node, item);
  patch(node, item.children ?? []);
}

function dress(node: HTMLElement, before: IElement, now: IElement): void {
  if ((before.className ?? '') !== (now.className ?? '')) {
    node.className = now.className ?? '';
  }
  const old = before.attributes ?? {};
  const attributes = now.attributes ?? {};
  for (const name of Object.keys(old) as Attribute[]) {
    if (!(name in attributes)) {
      node.removeAttribute(name);
    }
  }
  for (const name of Object.keys(attributes) as Attribute[]) {
    if (old[name] !== attributes[name]) {
      node.setAttribute(name, attributes[name]!);
    }
  }
}
