/**
 * The wire of a run that was asked to keep it, folded away under its figures: the requests and responses with their
 * headers, and every frame with its time, its size and what it became. What the server sent only becomes text nodes.
 */
import type { TranslationBundle } from '@jupyterlab/translation';

import { duration } from '../format';
import { element, setText } from './elements';
import {
  FILTERS,
  Filter,
  Header,
  IExchange,
  IFrame,
  IWire,
  belongs,
  bytes,
  holds,
  readWire,
  visible
} from './wire-data';

/** So many frames are drawn at once; the reader asks for more. */
export const PAGE = 200;

const LABELS: Record<Filter, string> = {
  all: 'All',
  text: 'Text',
  comments: 'Comments',
  strays: 'Stray lines',
  coalesced: 'Coalesced',
  errors: 'Errors'
};

const MEANINGS = new Map<string, string>(
  Object.entries({
    coalesced: 'Came in one read with other frames: something held them back.',
    split: 'Its bytes came in more than one read.',
    unterminated: 'The stream ended before the blank line that closes it.',
    'keep-alive': 'Says nothing: the server is alive.',
    gap: 'Came after a gap of over a second and over five times the median.',
    error: 'The server reports an error.',
    undecodable: 'Could not be read as a message of this protocol.',
    'after-end': 'Came after the end of the answer and was not read.',
    'not-utf8': 'Holds bytes that are no UTF-8; they are shown as \\xff.',
    comment: 'A line that begins with a colon: most clients never see it.',
    stray: 'Lines that are no field of the format: most clients drop them.',
    nothing: 'Fields without data: nothing is dispatched.',
    lost: 'The connection broke off here; the frame was sent again.',
    body: 'The response was no stream.',
    oversized: 'Larger than a frame may be: nothing after it was read.'
  })
);

/** The disclosure below the figures of a settled transcript. */
export class WirePanel {
  readonly node = element('details', 'ts-Wire');
  private digest = element('span', 'ts-WireDigest');
  private heads = element('div', 'ts-WireHeads');
  private bar = element('div', 'ts-WireBar');
  private find = element('input', 'ts-WireFind');
  private count = element('span', 'ts-WireCount');
  private list = element('div', 'ts-WireList');
  private more = element('button', 'ts-WireMore');
  private buttons = new Map<Filter, HTMLButtonElement>();
  private source: unknown = null;
  private wire: IWire | null = null;
  private filter: Filter = 'all';
  private found: { frame: IFrame; place: number }[] = [];
  private drawn = 0;
  private tied = '';
  private filled = false;

  constructor(private trans: TranslationBundle | null) {
    const summary = element('summary', '');
    summary.append(element('span', '', this.say('Wire')), ' ', this.digest);
    this.bar.setAttribute('role', 'group');
    this.bar.setAttribute('aria-label', this.say('Frames shown'));
    for (const filter of FILTERS) {
      const button = element('button', 'ts-WireFilter');
      button.type = 'button';
      button.dataset.filter = filter;
      button.addEventListener('click', () => this.narrow(filter));
      this.buttons.set(filter, button);
      this.bar.append(button);
    }
    this.find.type = 'search';
    this.find.placeholder = this.say('Find in frames');
    this.find.setAttribute('aria-label', this.say('Find in frames'));
    this.find.spellcheck = false;
    this.find.addEventListener('input', () => this.draw());
    this.count.setAttribute('role', 'status');
    this.bar.append(this.find, this.count);
    this.list.setAttribute('role', 'list');
    this.list.setAttribute('aria-label', this.say('Frames'));
    this.more.type = 'button';
    this.more.addEventListener('click', () => this.grow(true));
    this.node.append(summary, this.heads, this.bar, this.list, this.more);
    this.node.hidden = true;
    this.node.addEventListener('toggle', () => this.fill());
  }

  /** The wire of a transcript, as its metadata holds it; drawn when the reader opens it. */
  update(source: unknown): void {
    if (source === this.source) {
      return;
    }
    this.source = source;
    this.wire = readWire(source);
    this.filled = false;
    this.node.hidden = !this.wire;
    if (this.wire) {
      setText(this.digest, this.digested(this.wire));
      this.fill();
    }
  }

  hide(): void {
    this.update(null);
    this.node.hidden = true;
  }

  private fill(): void {
    const wire = this.wire;
    if (!this.node.open || this.filled || !wire) {
      return;
    }
    this.filled = true;
    this.heads.replaceChildren(
      ...wire.exchanges.map(exchange => this.exchange(exchange, wire))
    );
    for (const [filter, button] of this.buttons) {
      const count = wire.frames.filter(frame => belongs(frame, filter)).length;
      button.replaceChildren(
        this.say(LABELS[filter]),
        ' ',
        element('span', 'ts-WireNumber', String(count))
      );
      button.disabled = count === 0 && filter !== 'all';
    }
    this.narrow('all');
  }

  /** In a line: how many frames came in how many reads. */
  private digested(wire: IWire): string {
    const frames =
      wire.frames.filter(({ kind }) => kind === 'frame').length +
      (wire.leftOut?.frames ?? 0);
    const most = wire.frames.reduce(
      (n, frame) => Math.max(n, frame.together),
      0
    );
    const parts = [
      `${count(frames)} ${this.say(frames === 1 ? 'frame' : 'frames')} ${this.say('in')} ${count(wire.reads)} ${this.say(wire.reads === 1 ? 'read' : 'reads')}`,
      bytes(wire.size)
    ];
    if (most > 1 && wire.reads > 1) {
      parts.push(`${this.say('at most')} ${most} ${this.say('at once')}`);
    }
    return parts.join(' · ');
  }

  private exchange(exchange: IExchange, wire: IWire): HTMLElement {
    const node = element('details', 'ts-WireExchange');
    const line = element('summary', '');
    const answered =
      exchange.status === null
        ? this.say('no response')
        : String(exchange.status);
    const attempts = new Set(wire.exchanges.map(({ attempt }) => attempt)).size;
    line.append(
      element(
        'span',
        'ts-WireUrl',
        visible(`${exchange.method} ${exchange.url}`)
      ),
      element('span', 'ts-WireStatus', `→ ${answered}`)
    );
    if (attempts > 1) {
      line.append(
        element(
          'span',
          'ts-WireAside',
          `${this.say('attempt')} ${exchange.attempt + 1}`
        )
      );
    }
    line.append(
      element(
        'span',
        'ts-WireAside',
        `${exchange.request.length} + ${exchange.response.length} ${this.say('headers')}`
      )
    );
    node.append(
      line,
      this.headers(this.say('Request headers'), exchange.request),
      this.headers(this.say('Response headers'), exchange.response)
    );
    return node;
  }

  private headers(title: string, headers: Header[]): HTMLElement {
    const group = element('div', 'ts-WireGroup');
    const list = element('dl', 'ts-WireHeaders');
    list.setAttribute('aria-label', title);
    for (const [name, value] of headers) {
      list.append(
        element('dt', '', visible(name)),
        element('dd', '', visible(value) || '—')
      );
    }
    group.append(
      element('div', 'ts-GroupTitle', title),
      headers.length ? list : element('div', 'ts-WireAside', this.say('none'))
    );
    return group;
  }

  private narrow(filter: Filter): void {
    this.filter = filter;
    for (const [name, button] of this.buttons) {
      button.setAttribute('aria-pressed', String(name === filter));
    }
    this.draw();
  }

  private draw(): void {
    const wire = this.wire;
    if (!wire) {
      return;
    }
    const words = this.find.value;
    this.found = wire.frames
      .map((frame, place) => ({ frame, place }))
      .filter(
        ({ frame }) => belongs(frame, this.filter) && holds(frame, words)
      );
    const all = this.found.length === wire.frames.length;
    setText(
      this.count,
      all
        ? ''
        : `${this.found.length} ${this.say('of')} ${wire.frames.length} ${this.say('shown')}`
    );
    this.drawn = 0;
    this.tied = '';
    this.list.replaceChildren();
    this.grow();
    if (!this.found.length) {
      this.list.append(
        this.note(
          this.say(
            wire.frames.length
              ? 'No frame is like that.'
              : 'The body of the response was empty.'
          )
        )
      );
    }
  }

  /** The next page of rows. */
  private grow(focus = false): void {
    const wire = this.wire;
    if (!wire) {
      return;
    }
    const from = this.drawn;
    this.drawn = Math.min(this.found.length, from + PAGE);
    for (let i = from; i < this.drawn; i++) {
      const { frame, place } = this.found[i];
      const before = i ? this.found[i - 1] : null;
      const missing = wire.leftOut;
      if (
        missing &&
        place >= missing.after &&
        (before === null || before.place < missing.after)
      ) {
        this.list.append(
          this.note(
            `${missing.frames} ${this.say('frames')} (${bytes(missing.size)}) ${this.say('are left out of the notebook; the store has them:')} %transcripts export ID -o wire.sse`
          )
        );
      }
      this.list.append(this.row(frame, before?.frame ?? null));
    }
    const left = this.found.length - this.drawn;
    if (!left && wire.notKept) {
      this.list.append(
        this.note(
          `${bytes(wire.notKept)} ${this.say('more came and are not kept: the wire has a limit.')}`
        )
      );
    }
    this.more.hidden = left === 0;
    setText(
      this.more,
      `${this.say('Show')} ${Math.min(left, PAGE)} ${this.say('more of')} ${left}`
    );
    if (focus) {
      // the button may be gone: the reader goes on at the first new row
      (
        this.list.children[from]?.querySelector('summary') as HTMLElement
      )?.focus();
    }
  }

  private row(frame: IFrame, before: IFrame | null): HTMLElement {
    const item = element('div', 'ts-WireItem');
    item.setAttribute('role', 'listitem');
    item.dataset.kind = frame.kind;
    item.dataset.marks = frame.marks.join(' ');
    const same =
      before !== null &&
      before.read === frame.read &&
      before.attempt === frame.attempt;
    item.classList.toggle('ts-mod-same', same);
    item.classList.toggle('ts-mod-together', frame.together > 1);
    const node = element('details', 'ts-WireRow');
    const line = element('summary', '');
    const at = element('span', 'ts-WireAt', duration(Math.max(0, frame.at)));
    at.title = `${frame.at.toFixed(3)} ms ${this.say('after the request')}`;
    const gap = element(
      'span',
      'ts-WireGap',
      same || frame.gap <= 0 ? '' : `+${duration(frame.gap)}`
    );
    const read = element('span', 'ts-WireRead', this.reads(frame));
    const size = element('span', 'ts-WireSize', bytes(frame.size));
    const became = element('span', 'ts-WireBecame');
    // how many came at once is said once a read
    const tied = `${frame.attempt} ${frame.read}`;
    const said = this.tied === tied;
    const marks = frame.marks.filter(mark => mark !== 'coalesced' || !said);
    this.tied = frame.marks.includes('coalesced') ? tied : this.tied;
    for (const mark of frame.kind === 'frame'
      ? marks
      : [frame.kind, ...marks]) {
      became.append(this.mark(mark, frame));
    }
    for (const [name, words] of frame.became) {
      if (!frame.marks.includes(name)) {
        became.append(element('span', 'ts-WireEvent', visible(name)));
      }
      if (words) {
        became.append(element('span', 'ts-WireSaid', visible(words)));
      }
    }
    const raw = element(
      'span',
      'ts-WireRaw',
      visible(frame.text.replace(/[\r\n]+$/, '').slice(0, 300))
    );
    line.append(at, gap, read, size, became, raw);
    node.append(line);
    node.addEventListener('toggle', () => {
      if (node.open && node.childElementCount === 1) {
        const whole = visible(frame.text, true);
        node.append(
          element('pre', 'ts-WireText', frame.cut ? `${whole} …` : whole)
        );
      }
    });
    item.append(node);
    return item;
  }

  private reads(frame: IFrame): string {
    return frame.reads > 1
      ? `#${frame.read - frame.reads + 1}–${frame.read}`
      : `#${frame.read}`;
  }

  private mark(mark: string, frame: IFrame): HTMLElement {
    const label =
      mark === 'coalesced'
        ? `${frame.together} ${this.say('at once')}`
        : mark === 'split'
          ? `${this.say('over')} ${frame.reads} ${this.say('reads')}`
          : mark === 'stray'
            ? this.say('stray line')
            : this.say(mark);
    const node = element('span', 'ts-WireMark', visible(label));
    node.dataset.mark = mark;
    const meaning = MEANINGS.get(mark);
    if (meaning) {
      node.title = this.say(meaning);
    }
    return node;
  }

  private note(text: string): HTMLElement {
    const node = element('div', 'ts-WireNote', text);
    node.setAttribute('role', 'listitem');
    return node;
  }

  private say(text: string): string {
    return this.trans ? this.trans.__(text) : text;
  }
}

function count(value: number): string {
  return value.toLocaleString('en');
}
