/** The timeline of a settled transcript as numbers: when each piece came, and which words it brought. No DOM. */
import { CHANNELS, ISpan } from '../state';
import type { ISettled } from './settled';

/** The rule of timing/metrics.py: a gap is a stall above a second and above five times the median gap. */
const STALL_FLOOR_MS = 1000;
const STALL_FACTOR = 5;
/** No file holds more; what claims to is damaged. */
const MOST_PIECES = 5_000_000;

/** Every piece of a run in order of arrival, times in ms since the request. */
export interface ITimeline {
  at: Float64Array;
  characters: Uint32Array;
  channel: Uint8Array;
  choice: Uint32Array;
  /** Where the run ends on the axis: the last piece, or the moment it was stopped or closed after it. */
  total: number;
  /** When Stop was pressed. */
  stopped: number | null;
}

/** A gap that is a stall. */
export interface IStall {
  from: number;
  to: number;
}

/** The timeline in a transcript's metadata; null when there is none, or none that can be read. */
export function readTimeline(about: ISettled['about']): ITimeline | null {
  const raw = about.timeline as Record<string, unknown> | undefined;
  const deltas = numbers(raw?.delta_us);
  const characters = numbers(raw?.characters);
  const flags = numbers(raw?.flags) ?? spread(numbers(raw?.flag_runs));
  if (
    !deltas ||
    !characters ||
    !flags ||
    !deltas.length ||
    deltas.length > MOST_PIECES ||
    characters.length !== deltas.length ||
    flags.length !== deltas.length
  ) {
    return null;
  }
  const at = new Float64Array(deltas.length);
  let micros = 0;
  deltas.forEach((delta, i) => {
    micros += Math.max(0, delta);
    at[i] = micros / 1000;
  });
  return {
    at,
    characters: Uint32Array.from(characters),
    channel: Uint8Array.from(flags, flag => flag & 7),
    choice: Uint32Array.from(flags, choiceOf),
    total: Math.max(at[at.length - 1], endOf(about) ?? 0, 0.001),
    stopped: momentOf(about, 'stop_requested')
  };
}

/** When a run was over, whether or not anything came: its last piece, or when it was stopped or closed after that. */
export function endOf(about: ISettled['about']): number | null {
  const known = [
    finite(about.timing?.e2e_ms),
    momentOf(about, 'stop_requested'),
    momentOf(about, 'ended') ?? momentOf(about, 'closed')
  ].filter(moment => moment !== null);
  return known.length ? Math.max(...known) : null;
}

/** Four bits of the flags are the choice; above their byte stands how far it is behind the fifteenth. */
function choiceOf(flags: number): number {
  return ((flags >> 3) & 15) + Math.floor(flags / 256);
}

function momentOf(about: ISettled['about'], name: string): number | null {
  const raw = about.timeline as Record<string, unknown> | undefined;
  return finite((raw?.moments_ms as Record<string, unknown> | null)?.[name]);
}

function finite(value: unknown): number | null {
  return typeof value === 'number' && Number.isFinite(value) ? value : null;
}

/** The flags of each piece, of flags and how many pieces in a row have them, in turn. */
function spread(runs: readonly number[] | null): number[] | null {
  if (!runs || runs.length % 2) {
    return null;
  }
  const flags: number[] = [];
  for (let i = 0; i < runs.length; i += 2) {
    const end = flags.length + runs[i + 1];
    if (!(end >= flags.length && end <= MOST_PIECES)) {
      return null;
    }
    while (flags.length < end) {
      flags.push(runs[i]);
    }
  }
  return flags;
}

interface IStallRule {
  threshold: number;
  median: number;
}

/** To sort the gaps of a long run takes its time, and several parts of the view ask for the rule. */
const rules = new WeakMap<Float64Array, IStallRule>();

/** How long a gap must be to count as a stall, in ms, and the median gap; null with fewer than two pieces. */
export function stallRule(at: Float64Array): IStallRule | null {
  if (at.length < 2) {
    return null;
  }
  const known = rules.get(at);
  if (known) {
    return known;
  }
  const gaps = new Float64Array(at.length - 1);
  for (let i = 1; i < at.length; i++) {
    gaps[i - 1] = at[i] - at[i - 1];
  }
  gaps.sort();
  const middle = (gaps.length - 1) / 2;
  const median = (gaps[Math.floor(middle)] + gaps[Math.ceil(middle)]) / 2;
  const rule = {
    threshold: Math.max(STALL_FLOOR_MS, STALL_FACTOR * median),
    median
  };
  rules.set(at, rule);
  return rule;
}

/** The stalls of a run. */
export function stallsOf(at: Float64Array): IStall[] {
  const rule = stallRule(at);
  const stalls: IStall[] = [];
  for (let i = 1; rule && i < at.length; i++) {
    if (at[i] - at[i - 1] > rule.threshold) {
      stalls.push({ from: at[i - 1], to: at[i] });
    }
  }
  return stalls;
}

/**
 * The silence before a run was cut short, when it is as long as a stall. It is no gap between pieces and so not among
 * the stalls that are counted.
 */
export function silenceOf({ at, total }: ITimeline): IStall | null {
  const from = at[at.length - 1];
  const threshold = stallRule(at)?.threshold ?? STALL_FLOOR_MS;
  return total - from > threshold ? { from, to: total } : null;
}

/** The longest time between two pieces. */
export function longestGap(at: Float64Array): number {
  let longest = 0;
  for (let i = 1; i < at.length; i++) {
    longest = Math.max(longest, at[i] - at[i - 1]);
  }
  return longest;
}

/** The pieces as spans, those closer than `grain` put together. */
export function spansOf(timeline: ITimeline, grain: number): ISpan[] {
  const spans: ISpan[] = [];
  let last: ISpan | undefined;
  timeline.at.forEach((at, i) => {
    const channel = CHANNELS[timeline.channel[i]] ?? 'text';
    if (last && last.channel === channel && at - last.to < grain) {
      last.to = at;
      last.pieces++;
    } else {
      last = { from: at, to: at, pieces: 1, channel };
      spans.push(last);
    }
  });
  return spans;
}

/** How many pieces had come at a moment. */
export function countAt(at: Float64Array, ms: number): number {
  let low = 0;
  let high = at.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (at[middle] <= ms) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

/**
 * Where in `text` each piece ends. A timeline counts characters as Python does, by code point; the offsets are those
 * of JavaScript. Pieces beyond the end of the text end with it.
 */
export function endsOf(text: string, characters: ArrayLike<number>): number[] {
  const ends: number[] = [];
  const wide = /[\ud800-\udfff]/.test(text);
  let offset = 0;
  for (let i = 0; i < characters.length; i++) {
    if (wide) {
      for (let n = characters[i]; n > 0 && offset < text.length; n--) {
        offset += (text.codePointAt(offset) ?? 0) > 0xffff ? 2 : 1;
      }
    } else {
      offset = Math.min(text.length, offset + characters[i]);
    }
    ends.push(offset);
  }
  return ends;
}

/** One channel of one answer: its text, and which pieces of the timeline brought it, up to where. */
export interface IStrand {
  text: string;
  /** Numbers of pieces in the timeline. */
  pieces: number[];
  ends: number[];
}

/** The strands of a transcript, made when first asked for. */
export class Strands {
  private made = new Map<string, IStrand>();
  private places: { strand: IStrand; index: number }[] | null = null;

  constructor(
    private transcript: ISettled,
    private timeline: ITimeline
  ) {}

  /** One channel of one answer. */
  of(choice: number, channel: string): IStrand {
    const key = `${choice} ${channel}`;
    let strand = this.made.get(key);
    if (!strand) {
      const wanted = CHANNELS.indexOf(channel);
      const pieces: number[] = [];
      this.timeline.channel.forEach((each, i) => {
        if (each === wanted && this.timeline.choice[i] === choice) {
          pieces.push(i);
        }
      });
      const text = said(this.transcript, choice, channel);
      const characters = pieces.map(i => this.timeline.characters[i]);
      strand = { text, pieces, ends: endsOf(text, characters) };
      this.made.set(key, strand);
    }
    return strand;
  }

  /** The words of a piece of the timeline. */
  words(piece: number): string {
    this.places ??= this.locate();
    const place = this.places[piece];
    return place ? wordsOf(place.strand, place.index) : '';
  }

  /** What a channel had said by the time `count` pieces had come. */
  until(choice: number, channel: string, count: number): string {
    const strand = this.of(choice, channel);
    if (count >= this.timeline.at.length) {
      return strand.text;
    }
    let low = 0;
    let high = strand.pieces.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (strand.pieces[middle] < count) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    return low ? strand.text.slice(0, strand.ends[low - 1]) : '';
  }

  private locate(): { strand: IStrand; index: number }[] {
    const places: { strand: IStrand; index: number }[] = [];
    const keys = new Set<number>();
    this.timeline.at.forEach((_, i) => {
      keys.add(this.timeline.choice[i] * 8 + this.timeline.channel[i]);
    });
    for (const key of keys) {
      const strand = this.of(key >> 3, CHANNELS[key & 7] ?? '');
      strand.pieces.forEach((piece, index) => {
        places[piece] = { strand, index };
      });
    }
    return places;
  }
}

/** The words that piece number `index` of a strand brought. */
export function wordsOf(strand: IStrand, index: number): string {
  return strand.text.slice(
    index ? strand.ends[index - 1] : 0,
    strand.ends[index]
  );
}

/** What a transcript holds of one channel of one answer. */
function said(transcript: ISettled, choice: number, channel: string): string {
  const from =
    transcript.choices?.find(each => each.index === choice) ??
    (choice ? {} : transcript);
  switch (channel) {
    case 'text':
      return textOf(from.text);
    case 'reasoning':
      return textOf(from.reasoning);
    case 'refusal':
      return textOf(from.refusal);
    default:
      return (from.tool_calls ?? [])
        .map(call => textOf(call?.arguments))
        .join('');
  }
}

function textOf(value: unknown): string {
  return typeof value === 'string' ? value : '';
}

function numbers(value: unknown): number[] | null {
  return Array.isArray(value) &&
    value.every(each => typeof each === 'number' && Number.isFinite(each))
    ? (value as number[])
    : null;
}
