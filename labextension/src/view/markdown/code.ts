/**
 * A code block: its language, a Copy button, and the code in groups of lines. A full group is not written to again,
 * so a million characters grow as smoothly as a hundred. Colours come when there is time for them.
 */
import { recede } from '../far';
import { split } from '../text';
import { IPart, IPartNode, patch, write } from './dom';
import { COLOURED, Highlighter, highlighter } from './highlight';
import { Later } from './later';
import { say } from './services';

/** Longer than this, a block that is still open is coloured only when it is finished. */
const LIVE = 60_000;
const LIVE_MS = 2;
const SLICE_MS = 4;

interface IGroup {
  node: HTMLElement;
  from: number;
  to: number;
}

/** A bar with a name and a Copy button, and code below it. */
export class CodeBlock implements IPartNode {
  readonly node = document.createElement('div');
  private name = document.createElement('span');
  private copy = document.createElement('button');
  private code = document.createElement('code');
  private text = '';
  private loose = '';
  private groups: IGroup[] = [];
  private open: IGroup | null = null;
  private language = '';
  private colours: Highlighter | null = null;
  private finished = false;
  private later = new Later();
  private source = () => this.text + this.loose;

  constructor(info = '') {
    this.node.className = 'ts-Code';
    const bar = document.createElement('div');
    bar.className = 'ts-CodeBar';
    this.name.className = 'ts-Language';
    this.copy.type = 'button';
    this.copy.className = 'ts-Copy';
    this.copy.textContent = say('Copy');
    this.copy.onclick = () => void this.toClipboard();
    bar.append(this.name, this.copy);
    const box = document.createElement('pre');
    box.appendChild(this.code);
    this.node.append(bar, box);
    this.call(info);
  }

  /** Where the groups of lines are. */
  get lines(): HTMLElement {
    return this.code;
  }

  /** Only the bar is used: `text` is what Copy takes, and the lines are drawn elsewhere. */
  drawnByOthers(text: () => string): void {
    this.source = text;
  }

  /** All of the code, for a block that is drawn anew with every frame; what is there already stays. */
  set(text: string, info: string): void {
    this.call(info);
    this.finished = false;
    if (!text.startsWith(this.text)) {
      this.clear();
    }
    this.append(text.slice(this.text.length));
    this.colour();
  }

  /** More code, which stays. */
  append(more: string): void {
    let rest = more;
    this.loose = '';
    this.text += more;
    while (rest) {
      const group = this.open ?? this.begin();
      const [now, later] = split(rest, 2000 - (group.to - group.from));
      group.to += now.length;
      rest = later;
      const isFull = Boolean(later) || isGroup(this.text, group);
      this.draw(group);
      if (isFull) {
        this.open = null;
      }
    }
    this.colour();
  }

  /** The beginning of a line, which may still turn out to be something else. */
  tail(text: string): void {
    if (text === this.loose) {
      return;
    }
    this.loose = text;
    this.draw(this.open ?? this.begin());
  }

  /** There is no more. */
  finish(): void {
    this.loose = '';
    if (this.open) {
      this.draw(this.open);
    }
    this.finished = true;
    this.colour();
  }

  private call(info: string): void {
    const [word] = info.trim().split(/[\s,{]/, 1);
    const language = word.replace(/^[.{]+/, '').slice(0, 40);
    if (language === this.language && this.copy.hasAttribute('aria-label')) {
      return;
    }
    this.language = language;
    this.name.textContent = language;
    this.copy.setAttribute(
      'aria-label',
      language ? `${say('Copy code')}: ${language}` : say('Copy code')
    );
    this.colours = null;
    void highlighter(language.toLowerCase()).then(found => {
      if (found && language === this.language) {
        this.colours = found;
        this.colour();
      }
    });
  }

  private clear(): void {
    this.code.replaceChildren();
    this.groups = [];
    this.open = null;
    this.text = '';
    this.loose = '';
  }

  private begin(): IGroup {
    const node = document.createElement('span');
    node.className = 'ts-Lines';
    const at = this.groups.length ? this.groups[this.groups.length - 1].to : 0;
    this.open = { node, from: at, to: at };
    this.groups.push(this.open);
    this.code.appendChild(node);
    recede(this.code);
    return this.open;
  }

  private draw(group: IGroup): void {
    const text = this.text.slice(group.from, group.to);
    const shown = group === this.open ? text + this.loose : text;
    const { firstChild, lastChild } = group.node;
    if (!firstChild) {
      group.node.appendChild(document.createTextNode(shown));
    } else if (firstChild === lastChild && firstChild instanceof Text) {
      write(firstChild, shown);
    } else if (this.colours) {
      this.paint(group);
    } else {
      patch(group.node, [shown]);
    }
  }

  private paint(group: IGroup): void {
    const runs = this.colours!.runs(this.text, group.from, group.to);
    if (group === this.open && this.loose) {
      runs.push({ text: this.loose, className: '' });
    }
    patch(
      group.node,
      runs.map(({ text, className }) =>
        className ? { tag: 'span' as const, className, children: [text] } : text
      )
    );
  }

  /** Colours what grew, at once when that is quick; all of it, when there is time, once the block is finished. */
  private colour(): void {
    if (!this.colours || this.text.length > COLOURED) {
      return;
    }
    const last = this.open ?? this.groups[this.groups.length - 1];
    if (this.text.length <= LIVE && last) {
      if (this.colours.advance(this.text, performance.now() + LIVE_MS)) {
        this.paint(last);
      }
    }
    if (this.finished || this.groups.length > 1) {
      this.later.clear();
      this.later.add(() => this.colourAll(0));
    }
  }

  private colourAll(from: number): void {
    const until = performance.now() + SLICE_MS;
    if (!this.colours?.advance(this.text, until)) {
      if (this.finished && this.colours) {
        this.later.add(() => this.colourAll(from));
      }
      return;
    }
    for (let index = from; index < this.groups.length; index++) {
      if (performance.now() > until) {
        this.later.add(() => this.colourAll(index));
        return;
      }
      if (!isSelected(this.groups[index].node)) {
        this.paint(this.groups[index]);
      }
    }
  }

  private async toClipboard(): Promise<void> {
    let words = say('Copied');
    try {
      await navigator.clipboard.writeText(this.source());
    } catch {
      words = say('Copying failed');
    }
    this.copy.textContent = words;
    window.setTimeout(() => {
      this.copy.textContent = say('Copy');
    }, 1500);
  }
}

/** Whether a group has enough lines. */
function isGroup(text: string, group: IGroup): boolean {
  const length = group.to - group.from;
  return (length >= 2000 && text[group.to - 1] === '\n') || length >= 7999;
}

/** What a reader has selected is not taken apart under the hand. */
function isSelected(node: Node): boolean {
  const selection = document.getSelection();
  return Boolean(
    selection && !selection.isCollapsed && selection.containsNode(node, true)
  );
}

/** A code block within another block. */
export function codePart(text: string, info: string): IPart {
  return {
    part: 'code',
    make: () => new CodeBlock(info),
    set: part => (part as CodeBlock).set(text, info)
  };
}
