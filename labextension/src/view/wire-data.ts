/**
 * The wire of a run as the output's metadata holds it: headers and frames. No DOM. What is read here comes from a
 * notebook file, which may hold anything.
 */

/** One header, or several of the same name one after the other. */
export type Header = [name: string, value: string];

/** A request and what came back to it; times in ms since the request of the answer. */
export interface IExchange {
  attempt: number;
  method: string;
  url: string;
  request: Header[];
  status: number | null;
  response: Header[];
  sent: number | null;
  reads: number;
  size: number;
  whole: boolean;
}

/** A frame, a comment or stray lines: when the read came that completed it, and what it became. */
export interface IFrame {
  at: number;
  gap: number;
  size: number;
  read: number;
  /** Over how many reads it was spread. */
  reads: number;
  /** How many frames its read completed. */
  together: number;
  kind: string;
  text: string;
  /** Whether `text` is only its beginning. */
  cut: boolean;
  became: [name: string, said: string][];
  marks: string[];
  attempt: number;
}

export interface IWire {
  protocol: string;
  size: number;
  reads: number;
  exchanges: IExchange[];
  frames: IFrame[];
  /** Frames that are not in the notebook: behind how many of those that are, and how many. */
  leftOut: { after: number; frames: number; size: number } | null;
  /** Bytes over the limit of what is kept at all. */
  notKept: number;
}

/** What the list can be narrowed to. */
export const FILTERS = [
  'all',
  'text',
  'comments',
  'strays',
  'coalesced',
  'errors'
] as const;
export type Filter = (typeof FILTERS)[number];

const SAID = ['text', 'reasoning', 'refusal', 'tool'];
const WRONG = ['error', 'undecodable', 'unterminated'];
const MOST = 100_000;

/** The wire of a settled transcript; null when there is none, or nothing that could be drawn. */
export function readWire(value: unknown): IWire | null {
  const wire = record(value);
  if (!wire || !Array.isArray(wire.frames) || !Array.isArray(wire.exchanges)) {
    return null;
  }
  const missing = record(wire.left_out);
  return {
    protocol: text(wire.protocol),
    size: number(wire.size),
    reads: number(wire.reads),
    exchanges: records(wire.exchanges).map(exchange => ({
      attempt: number(exchange.attempt),
      method: text(exchange.method),
      url: text(exchange.url),
      request: headers(exchange.request),
      status: typeof exchange.status === 'number' ? exchange.status : null,
      response: headers(exchange.response),
      sent: typeof exchange.sent === 'number' ? exchange.sent : null,
      reads: number(exchange.reads),
      size: number(exchange.size),
      whole: exchange.whole === true
    })),
    frames: records(wire.frames).map(frame => ({
      at: number(frame.at),
      gap: number(frame.gap),
      size: number(frame.size),
      read: number(frame.read),
      reads: number(frame.reads, 1),
      together: number(frame.together, 1),
      kind: text(frame.kind) || 'frame',
      text: text(frame.text),
      cut: frame.cut === true,
      became: pairs(frame.became),
      marks: Array.isArray(frame.marks)
        ? frame.marks.filter(mark => typeof mark === 'string').slice(0, 20)
        : [],
      attempt: number(frame.attempt)
    })),
    leftOut: missing
      ? {
          after: number(missing.after),
          frames: number(missing.frames),
          size: number(missing.size)
        }
      : null,
    notKept: number(wire.not_kept)
  };
}

/** Whether a frame belongs to what the list is narrowed to. */
export function belongs(frame: IFrame, filter: Filter): boolean {
  switch (filter) {
    case 'text':
      return frame.became.some(([name]) => SAID.includes(name));
    case 'comments':
      return frame.kind === 'comment' || frame.marks.includes('keep-alive');
    case 'strays':
      return frame.kind === 'stray' || frame.kind === 'nothing';
    case 'coalesced':
      return frame.marks.includes('coalesced');
    case 'errors':
      return (
        ['lost', 'oversized'].includes(frame.kind) ||
        frame.marks.some(mark => WRONG.includes(mark))
      );
    default:
      return true;
  }
}

/** Whether a frame holds the words, in its bytes or in what it became. */
export function holds(frame: IFrame, words: string): boolean {
  const wanted = words.toLowerCase();
  return (
    frame.text.toLowerCase().includes(wanted) ||
    frame.became.some(([name, said]) =>
      `${name} ${said}`.toLowerCase().includes(wanted)
    )
  );
}

/**
 * Text in which nothing is invisible: line ends and tabs as signs, other controls, what turns the direction of text and
 * what takes no room by their number. `lines`: a line end also ends the line.
 */
export function visible(text: string, lines = false): string {
  return text.replace(HIDDEN, found => {
    const code = found.codePointAt(0) ?? 0;
    const shown =
      SIGNS.get(found) ??
      `⟨U+${code.toString(16).toUpperCase().padStart(4, '0')}⟩`;
    return lines && found === '\n' ? `${shown}\n` : shown;
  });
}

const SIGNS = new Map([
  ['\n', '↵'],
  ['\r', '⟨CR⟩'],
  ['\t', '⇥']
]);

// controls and formats, blank letters, line and paragraph ends, variation selectors
const HIDDEN =
  /\p{Cc}|\p{Cf}|[\u115f\u1160\u3164\uffa0\u2028\u2029]|[\ufe00-\ufe0f]|[\u{e0100}-\u{e01ef}]/gu;

/** A number of bytes in words. */
export function bytes(count: number): string {
  return count < 10_000
    ? `${count} B`
    : count < 10_000_000
      ? `${(count / 1000).toFixed(count < 100_000 ? 1 : 0)} kB`
      : `${(count / 1_000_000).toFixed(1)} MB`;
}

function record(value: unknown): Record<string, unknown> | null {
  return value && typeof value === 'object' && !Array.isArray(value)
    ? (value as Record<string, unknown>)
    : null;
}

function records(values: unknown[]): Record<string, unknown>[] {
  return values
    .slice(0, MOST)
    .map(record)
    .filter(value => value !== null);
}

function text(value: unknown): string {
  return typeof value === 'string' ? value : '';
}

function number(value: unknown, unknown = 0): number {
  return typeof value === 'number' && Number.isFinite(value) ? value : unknown;
}

function headers(value: unknown): Header[] {
  return pairs(value);
}

function pairs(value: unknown): [string, string][] {
  return (Array.isArray(value) ? value : [])
    .slice(0, 1000)
    .filter((pair): pair is unknown[] => Array.isArray(pair))
    .map(([name, said]) => [text(name), text(said)]);
}
