/**
 * The thin strip under the header: when text came. Time runs to the right; every piece is a tick, reasoning a low
 * one; the wait for the first is shaded, a stall is marked with its length. Drawn as SVG in units of time, so that a
 * wider page, another theme or a longer axis needs no redrawing; live, only what is new is drawn, once a frame.
 */
import type { TranslationBundle } from '@jupyterlab/translation';

import { duration } from '../format';
import { ISpan, StreamState, isOver } from '../state';
import { element, setText } from './elements';
import {
  IStall,
  ITimeline,
  Strands,
  countAt,
  longestGap,
  silenceOf,
  spansOf,
  stallsOf
} from './timeline-data';

const SVG = 'http://www.w3.org/2000/svg';
const HEIGHT = 16;
/** A tick is this tall, from the bottom: reasoning is told apart by more than its colour. */
const TALL: Record<string, number> = { reasoning: 6 };
/** Ends of a live axis, in seconds: it grows by steps, so that what is drawn stays where it is. */
const STEPS = [2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600];
const SEGMENT = 64;
/** More marks than a strip has pixels show nothing more. */
const FINENESS = 1200;
const LIVE_STALL_MS = 1000;
const LIVE_STALL_FACTOR = 5;
const SHOWN_WORDS = 40;

interface ISegment {
  path: SVGPathElement;
  d: string;
  spans: number;
}

/** Draws one run's timeline, live and settled. */
export class Timeline {
  readonly node = element('div', 'ts-Timeline');
  private svg = svg('svg');
  private wait = svg('rect', 'ts-Wait');
  private marks = svg('g');
  private tail = svg('path', 'ts-Arrived');
  private stalls = element('div', 'ts-Stalls');
  private head = element('div', 'ts-Head');
  private readout = element('div', 'ts-Readout');
  private waited = element('div', 'ts-Waited');
  private end = element('div', 'ts-AxisEnd');
  private segments = new Map<string, ISegment>();
  private drawn = 0;
  private grain = 0;
  private spans: ISpan[] = [];
  private axis = 1;
  private shared: number | null = null;
  private settledLine: ITimeline | null = null;
  private strands: Strands | null = null;
  private known: IStall[] = [];
  private openStall: HTMLElement | null = null;
  private stalledFrom: number | null = null;

  constructor(private trans: TranslationBundle | null) {
    this.svg.setAttribute('preserveAspectRatio', 'none');
    this.svg.setAttribute('role', 'img');
    this.wait.setAttribute('height', String(HEIGHT));
    this.svg.append(this.wait, this.marks, this.tail);
    this.head.hidden = this.readout.hidden = true;
    this.head.setAttribute('aria-hidden', 'true');
    this.stalls.setAttribute('aria-hidden', 'true');
    this.readout.setAttribute('aria-hidden', 'true');
    this.waited.setAttribute('aria-hidden', 'true');
    this.end.setAttribute('aria-hidden', 'true');
    this.node.append(
      this.svg,
      this.waited,
      this.stalls,
      this.head,
      this.end,
      this.readout
    );
    this.node.hidden = true;
    this.node.addEventListener('pointermove', event => this.hover(event));
    this.node.addEventListener('pointerleave', () => {
      this.readout.hidden = true;
    });
  }

  /** How long the run is, or has been so far, in ms. */
  total = 0;

  /** How long a pause has lasted that goes on, in ms; null when there is none. */
  quiet: number | null = null;

  /** A common end of the axis for several timelines; null for its own. */
  share(total: number | null): void {
    if (total !== this.shared) {
      this.shared = total;
      this.stretch();
    }
  }

  /** A running stream; `now` is the page's clock in ms. */
  live(state: StreamState, now: number): void {
    this.node.hidden = false;
    const { spans } = state;
    const last = spans[spans.length - 1];
    const passed = state.since === null ? 0 : now - state.since;
    const over = state.status === 'lost' || isOver(state);
    this.total = Math.max(last?.to ?? 0, over && last ? 0 : passed);
    this.settledLine = null;
    if (this.spans !== spans || this.grain !== state.grain) {
      this.clear();
      this.spans = spans;
      this.grain = state.grain;
    }
    this.stretch();
    this.drawWait(spans[0]?.from ?? this.total, spans.length > 0);
    this.add();
    this.liveStall(state);
    this.label(
      !state.since && !spans.length
        ? this.say('nothing yet')
        : spans.length
          ? `${this.say('first text after')} ${duration(spans[0].from)}`
          : this.say('waiting for the first text')
    );
    this.place(this.head, over || !this.total ? null : this.total);
    this.head.dataset.kind = 'now';
  }

  /** A finished run; null hides the strip. */
  settled(timeline: ITimeline | null, strands: Strands | null): void {
    this.settledLine = timeline;
    this.strands = strands;
    this.node.hidden = !timeline;
    this.clear();
    this.head.hidden = true;
    if (!timeline) {
      return;
    }
    this.total = timeline.total;
    this.spans = spansOf(timeline, timeline.total / FINENESS);
    this.grain = 0;
    this.stretch();
    this.drawWait(timeline.at[0], true);
    this.add(true);
    this.known = stallsOf(timeline.at);
    for (const stall of this.known) {
      this.stall(stall.from, stall.to);
    }
    const silent = silenceOf(timeline);
    if (silent) {
      this.stall(silent.from, silent.to);
    }
    if (timeline.stopped !== null) {
      const mark = element('div', 'ts-StopMark');
      this.at(mark, timeline.stopped, timeline.stopped);
      this.stalls.append(mark);
    }
    this.label(this.inWords(timeline, this.known.length));
  }

  /** Where a replay is; null when there is none. */
  playhead(ms: number | null): void {
    this.place(this.head, ms);
    this.head.dataset.kind = 'replay';
    this.end.hidden = ms !== null;
  }

  private inWords(timeline: ITimeline, stalls: number): string {
    const words = [
      `${this.say('first text after')} ${duration(timeline.at[0])}`
    ];
    words.push(
      stalls === 0
        ? this.say('no stalls')
        : stalls === 1
          ? this.say('1 stall')
          : `${stalls} ${this.say('stalls')}`
    );
    if (timeline.at.length > 1) {
      const gap = longestGap(timeline.at);
      words.push(`${this.say('longest gap')} ${duration(gap)}`);
    }
    words.push(
      `${this.say('last text after')} ${duration(timeline.at[timeline.at.length - 1])}`
    );
    const silent = silenceOf(timeline);
    if (silent) {
      const { from, to } = silent;
      words.push(`${this.say('then nothing for')} ${duration(to - from)}`);
    }
    return words.join(', ');
  }

  private drawWait(ms: number, ended: boolean): void {
    this.wait.setAttribute('width', String(ms));
    setText(this.waited, ended ? duration(ms) : '');
    this.at(this.waited, 0, ms);
  }

  /** Draws the spans that are new; the last may still grow, so it has a path of its own. */
  private add(all = false): void {
    const until = all ? this.spans.length : this.spans.length - 1;
    const touched = new Set<ISegment>();
    for (; this.drawn < until; this.drawn++) {
      const span = this.spans[this.drawn];
      let segment = this.segments.get(span.channel);
      if (!segment || segment.spans >= SEGMENT) {
        const path = svg('path', 'ts-Arrived');
        path.dataset.channel = span.channel;
        this.marks.append(path);
        segment = { path, d: '', spans: 0 };
        this.segments.set(span.channel, segment);
      }
      segment.d += shape(span);
      segment.spans++;
      touched.add(segment);
    }
    for (const segment of touched) {
      segment.path.setAttribute('d', segment.d);
    }
    const last = all ? undefined : this.spans[this.drawn];
    this.tail.dataset.channel = last?.channel ?? '';
    this.tail.setAttribute('d', last ? shape(last) : '');
  }

  /** A pause that lasts, while it lasts; the settled timeline has the exact ones. */
  private liveStall(state: StreamState): void {
    const { spans } = state;
    const last = spans[spans.length - 1];
    const mean = last
      ? (last.to - spans[0].from) / Math.max(1, state.chunks - 1)
      : 0;
    const limit = Math.max(LIVE_STALL_MS, LIVE_STALL_FACTOR * mean);
    if (last && this.stalledFrom !== null && last.from > this.stalledFrom) {
      if (this.openStall) {
        const next = spans.find(span => span.from > (this.stalledFrom ?? 0));
        this.measure(this.openStall, this.stalledFrom, next?.from ?? last.from);
      }
      this.openStall = this.stalledFrom = null;
    }
    this.quiet = null;
    if (last && state.status === 'streaming' && this.total - last.to > limit) {
      this.quiet = this.total - last.to;
      this.stalledFrom = last.to;
      if (!this.openStall) {
        this.openStall = this.stall(last.to, this.total);
      }
      this.measure(this.openStall, last.to, this.total);
    }
  }

  private stall(from: number, to: number): HTMLElement {
    const node = element('div', 'ts-Stall');
    this.measure(node, from, to);
    this.stalls.append(node);
    return node;
  }

  private measure(node: HTMLElement, from: number, to: number): void {
    setText(node, duration(to - from));
    this.at(node, from, to);
  }

  private at(node: HTMLElement, from: number, to: number): void {
    node.dataset.from = String(from);
    node.dataset.to = String(to);
    node.style.left = `${(100 * from) / this.axis}%`;
    node.style.width = `${(100 * (to - from)) / this.axis}%`;
  }

  private place(node: HTMLElement, ms: number | null): void {
    node.hidden = ms === null;
    if (ms !== null) {
      this.at(node, ms, ms);
    }
  }

  /** Sets the end of the axis. What is in the SVG is in units of time and needs nothing else. */
  private stretch(): void {
    const own = this.settledLine ? this.settledLine.total : step(this.total);
    const axis = this.shared ?? own;
    if (axis === this.axis) {
      return;
    }
    this.axis = axis;
    this.svg.setAttribute('viewBox', `0 0 ${axis} ${HEIGHT}`);
    setText(this.end, axis < 1000 ? duration(axis) : seconds(axis));
    for (const node of [
      this.waited,
      ...(this.stalls.children as unknown as HTMLElement[]),
      this.head
    ]) {
      this.at(node, Number(node.dataset.from), Number(node.dataset.to));
    }
  }

  private clear(): void {
    this.marks.replaceChildren();
    this.stalls.replaceChildren();
    this.segments.clear();
    this.tail.setAttribute('d', '');
    this.drawn = 0;
    this.spans = [];
    this.openStall = this.stalledFrom = null;
  }

  private label(words: string): void {
    const label = `${this.say('Timeline')}: ${words}`;
    if (this.svg.getAttribute('aria-label') !== label) {
      this.svg.setAttribute('aria-label', label);
    }
  }

  private hover(event: PointerEvent): void {
    const box = this.node.getBoundingClientRect();
    const share = (event.clientX - box.left) / (box.width || 1);
    const ms = share * this.axis;
    const words = this.settledLine ? this.piece(ms) : this.span(ms);
    this.readout.hidden = !words;
    setText(this.readout, words);
    this.readout.style.left = `${Math.max(0, Math.min(1, share)) * 100}%`;
    this.readout.style.transform = `translateX(-${Math.max(0, Math.min(1, share)) * 100}%)`;
  }

  /** The piece nearest to a moment, in words. */
  private piece(ms: number): string {
    const { at, total } = this.settledLine!;
    if (ms > total) {
      return '';
    }
    const next = countAt(at, ms);
    if (next === 0 && ms < at[0] - total / 200) {
      return `${this.say('waited for the first text')} ${duration(at[0])}`;
    }
    const stall = this.known.find(({ from, to }) => from < ms && ms < to);
    const nearer =
      next < at.length && (next === 0 || at[next] - ms < ms - at[next - 1]);
    const piece = stall || nearer ? next : next - 1;
    const gap =
      piece > 0
        ? ` · ${stall ? this.say('stalled') : this.say('gap')} ${duration(at[piece] - at[piece - 1])}`
        : '';
    return `${duration(at[piece])}${gap} · ${quoted(this.strands?.words(piece) ?? '')}`;
  }

  /** The span at a moment of a running stream, in words. */
  private span(ms: number): string {
    const near = this.spans.filter(({ from }) => from <= ms).pop();
    if (!near) {
      return `${this.say('waiting for the first text')} ${duration(Math.min(ms, this.total))}`;
    }
    const from = duration(near.from);
    return ms - near.to > LIVE_STALL_MS && ms <= this.total
      ? `${this.say('nothing since')} ${duration(near.to)}`
      : `${from} · ${near.pieces} ${this.say('chunks')}`;
  }

  private say(text: string): string {
    return this.trans ? this.trans.__(text) : text;
  }
}

/** The end of a live axis for a run of this length. */
export function step(ms: number): number {
  const seconds = (ms * 1.02) / 1000;
  const found = STEPS.find(each => each >= seconds);
  return 1000 * (found ?? Math.ceil(seconds / 3600) * 3600);
}

/** Words in quotes, short, with what cannot be seen made visible. */
export function quoted(words: string): string {
  const shown = words.replace(/\n/g, '↵').replace(/\t/g, '⇥');
  const short = [...shown.slice(0, 4 * SHOWN_WORDS)];
  return `“${short.slice(0, SHOWN_WORDS).join('')}${short.length > SHOWN_WORDS ? '…' : ''}”`;
}

function seconds(ms: number): string {
  return ms % 1000 === 0 && ms < 60_000 ? `${ms / 1000} s` : duration(ms);
}

function shape(span: ISpan): string {
  const top = HEIGHT - 2 - (TALL[span.channel] ?? HEIGHT - 4);
  const bottom = HEIGHT - 2;
  const from = round(span.from);
  const to = round(span.to);
  return from === to
    ? `M${from} ${top}V${bottom}`
    : `M${from} ${top}H${to}V${bottom}H${from}Z`;
}

function round(ms: number): number {
  return Math.round(ms * 100) / 100;
}

function svg<K extends 'svg' | 'g' | 'path' | 'rect'>(
  tag: K,
  className = ''
): SVGElementTagNameMap[K] {
  const node = document.createElementNS(SVG, tag);
  if (className) {
    node.setAttribute('class', className);
  }
  return node;
}
