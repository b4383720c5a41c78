/**
 * The growing text. Finished lines are sealed into blocks that are never touched again, so a frame costs the same
 * at a hundred tokens and at a hundred thousand. The box follows its tail only while the reader is at the bottom.
 */
import { element } from './elements';

/** A block is sealed at the first line end after this many characters, or anywhere at four times as many. */
const BLOCK = 2000;
const NEAR_BOTTOM_PX = 24;

/** A box of text that grows at its end. */
export class Answer {
  readonly node = element('div', 'ts-Answer');
  private last = '';
  private tail: Text | null = null;

  constructor() {
    this.node.tabIndex = 0;
  }

  /** Shows `text`, which normally begins with what is shown already; if it does not, it is drawn anew. */
  update(text: string): void {
    if (text === this.last) {
      return;
    }
    const follow = this.isAtBottom();
    if (!text.startsWith(this.last)) {
      this.clear();
    }
    this.append(text.slice(this.last.length));
    this.last = text;
    if (follow) {
      this.node.scrollTop = this.node.scrollHeight;
    }
  }

  /** Whether the reader is at the end, and so wants to stay there. */
  isAtBottom(): boolean {
    const { scrollHeight, scrollTop, clientHeight } = this.node;
    return scrollHeight - scrollTop - clientHeight < NEAR_BOTTOM_PX;
  }

  private clear(): void {
    this.node.replaceChildren();
    this.tail = null;
    this.last = '';
  }

  private append(more: string): void {
    let rest = more;
    while (rest) {
      const tail = this.tail ?? this.open();
      const [now, later] = split(rest, BLOCK - tail.length);
      tail.appendData(now);
      rest = later;
      if (isFull(tail.data)) {
        this.tail = null;
      }
    }
  }

  private open(): Text {
    const block = element('div', 'ts-Block');
    this.tail = document.createTextNode('');
    block.appendChild(this.tail);
    this.node.appendChild(block);
    return this.tail;
  }
}

/** Splits behind the first line end after `room` characters, or at four blocks where there is none. */
export function split(text: string, room: number): [string, string] {
  const most = Math.max(1, room + 3 * BLOCK);
  const end = text.indexOf('\n', Math.max(0, room));
  let cut = end >= 0 ? Math.min(end + 1, most) : most;
  if (cut < text.length && cut > 1 && /[\ud800-\udbff]/.test(text[cut - 1])) {
    cut--;
  }
  return [text.slice(0, cut), text.slice(cut)];
}

function isFull(text: string): boolean {
  return (
    (text.length >= BLOCK && text.endsWith('\n')) ||
    text.length >= 4 * BLOCK - 1
  );
}
