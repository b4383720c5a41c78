/** An image of a model's text: a chip that names where it is. Nothing is fetched until the reader asks for it. */
import type { IPart, IPartNode } from './dom';
import type { IAddress } from './links';
import { say } from './services';

class Chip implements IPartNode {
  readonly node = document.createElement('span');
  private button = document.createElement('button');
  private shown = '';

  constructor() {
    this.node.className = 'ts-Chip';
    this.button.type = 'button';
    this.node.appendChild(this.button);
  }

  set(to: IAddress, alt: string): void {
    const words = `${say('Image')}${alt ? ` “${alt}”` : ''}: ${say('load from')} ${to.host}`;
    if (this.shown === to.href + words) {
      return;
    }
    this.shown = to.href + words;
    this.button.textContent = words;
    this.button.title = to.href;
    this.button.onclick = () => this.load(to, alt);
    this.node.replaceChildren(this.button);
  }

  private load(to: IAddress, alt: string): void {
    const image = document.createElement('img');
    image.referrerPolicy = 'no-referrer';
    image.alt = alt;
    image.onerror = () => {
      this.button.textContent = `${say('The image did not load')}: ${to.host}`;
      this.node.replaceChildren(this.button);
    };
    image.src = to.href;
    this.node.replaceChildren(image);
  }
}

/** A chip for an image at an address that may be followed. */
export function chipPart(to: IAddress, alt: string): IPart {
  return {
    part: 'image',
    make: () => new Chip(),
    set: part => (part as Chip).set(to, alt)
  };
}
