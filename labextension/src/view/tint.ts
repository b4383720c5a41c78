/**
 * The answer as plain text, each piece tinted by the gap before it. Pointing at a piece says when it came and, where
 * the server told logprobs, how likely its tokens were. Built some thousand pieces a frame, so that a long answer
 * does not hold the page.
 */
import { duration } from '../format';
import { element, setText } from './elements';
import type { ILogprob } from './settled';
import { quoted } from './timeline';
import { IStrand, ITimeline, stallRule, wordsOf } from './timeline-data';

const PIECES_A_FRAME = 4000;
const BLOCK = 400;
const SHOWN_TOKENS = 4;

/** From which gap, in ms, each tint is worn; the last is a stall. */
export function levels(timeline: ITimeline): number[] {
  const rule = stallRule(timeline.at);
  if (!rule) {
    return [];
  }
  const usual = Math.max(1, rule.median);
  return [2 * usual, 5 * usual, rule.threshold].filter(
    (level, i, all) => i === all.length - 1 || level < rule.threshold
  );
}

/** The tinted text of one answer. */
export class Tinted {
  readonly node = element('div', 'ts-Answer ts-Tinted');
  private frame: number | null = null;
  private next = 0;
  private tokens: { ends: number[]; list: ILogprob[] } | null;

  constructor(
    private timeline: ITimeline,
    private strand: IStrand,
    logprobs: ILogprob[] | undefined,
    private readout: HTMLElement,
    private say: (text: string) => string
  ) {
    this.node.tabIndex = 0;
    this.tokens = aligned(strand.text, logprobs);
    this.node.addEventListener('pointerover', event => {
      const piece = (event.target as HTMLElement).dataset.piece;
      if (piece !== undefined) {
        setText(this.readout, this.about(Number(piece)));
      }
    });
    this.build();
  }

  dispose(): void {
    if (this.frame !== null) {
      cancelAnimationFrame(this.frame);
    }
  }

  private build(): void {
    this.frame = null;
    const { pieces, ends, text } = this.strand;
    const bounds = levels(this.timeline);
    const until = Math.min(pieces.length, this.next + PIECES_A_FRAME);
    while (this.next < until) {
      const block = element('div', 'ts-Block');
      const end = Math.min(until, this.next + BLOCK);
      for (; this.next < end; this.next++) {
        const words = wordsOf(this.strand, this.next);
        if (words) {
          const span = element('span', 'ts-Piece', words);
          span.dataset.piece = String(this.next);
          const level = this.level(pieces[this.next], bounds);
          if (level) {
            span.dataset.gap = String(level);
          }
          block.append(span);
        }
      }
      this.node.append(block);
    }
    if (this.next < pieces.length) {
      this.frame = requestAnimationFrame(() => this.build());
      return;
    }
    const rest = text.slice(ends.length ? ends[ends.length - 1] : 0);
    if (rest) {
      const block = element('div', 'ts-Block');
      block.append(element('span', 'ts-Piece', rest));
      this.node.append(block);
    }
    this.node.dataset.whole = 'true';
  }

  private level(piece: number, bounds: number[]): number {
    const { at } = this.timeline;
    if (piece === 0) {
      return 0; // the wait for the first is no gap between pieces
    }
    const gap = at[piece] - at[piece - 1];
    const passed = bounds.filter(bound => gap > bound).length;
    return passed && passed + 3 - bounds.length;
  }

  /** A piece in words. */
  private about(index: number): string {
    const piece = this.strand.pieces[index];
    const { at } = this.timeline;
    const parts = [
      piece
        ? `${this.say('gap')} ${duration(at[piece] - at[piece - 1])}`
        : `${this.say('first text after')} ${duration(at[0])}`,
      `${this.say('at')} ${duration(at[piece])}`
    ];
    const begin = index ? this.strand.ends[index - 1] : 0;
    const end = this.strand.ends[index];
    const { ends, list } = this.tokens ?? { ends: [], list: [] };
    const found = list.filter(
      (_, i) => ends[i] > begin && (i ? ends[i - 1] : 0) < end
    );
    for (const token of found.slice(0, SHOWN_TOKENS)) {
      parts.push(likelihood(token));
    }
    return parts.join(' · ');
  }
}

/** A token with its logprob, its chance, and what else was likely. */
export function likelihood({ token, logprob, alternatives }: ILogprob): string {
  const chance = (value: unknown): string =>
    typeof value === 'number' ? `${(100 * Math.exp(value)).toFixed(1)} %` : '—';
  const others = (Array.isArray(alternatives) ? alternatives : [])
    .filter(other => Array.isArray(other) && other[0] !== token)
    .slice(0, SHOWN_TOKENS)
    .map(([other, value]) => `${quoted(String(other))} ${chance(value)}`);
  const own = `${quoted(String(token))} logprob ${typeof logprob === 'number' ? logprob.toFixed(3) : '—'} (${chance(logprob)})`;
  return others.length ? `${own}, ${others.join(', ')}` : own;
}

/** Where each token ends in the text; null when the tokens are not those of the text. */
function aligned(
  text: string,
  logprobs: ILogprob[] | undefined
): { ends: number[]; list: ILogprob[] } | null {
  const ends: number[] = [];
  const list: ILogprob[] = [];
  let offset = 0;
  for (const each of Array.isArray(logprobs) ? logprobs : []) {
    const token = typeof each?.token === 'string' ? each.token : '';
    const found = token ? text.indexOf(token, offset) : -1;
    // special tokens are in no text; what is found far away is another one
    if (found >= 0 && found - offset <= 64) {
      offset = found + token.length;
      ends.push(offset);
      list.push(each);
    }
  }
  return list.length ? { ends, list } : null;
}
