/**
 * A transcript in a list, in the side panel and in the output of `%transcripts`. It comes from a server or a notebook
 * file, so nothing in it is taken for granted: what has another type is unknown.
 */
import type { TranslationBundle } from '@jupyterlab/translation';

import { duration, rate } from './format';

/** One line of a list; null what is not known. */
export interface IRow {
  /** Empty when it is not known, or no id. */
  id: string;
  model: string;
  outcome: string;
  stopCause: string;
  prompt: string;
  text: string;
  problem: string;
  createdAt: Date | null;
  ttft: number | null;
  rate: number | null;
  rateUnit: 'tokens' | 'chunks';
  notebook: string;
  tags: string[];
}

const ULID = /^[0-7][0-9A-HJKMNP-TV-Z]{25}$/;
const LONGEST = 2000;
const MOST_TAGS = 20;

const SYMBOLS: Record<string, string> = {
  complete: '✓',
  stopped: '■',
  truncated: '!',
  failed: '×',
  running: '●'
};

/** What a server or a file says, as a row. */
export function rowOf(value: unknown): IRow {
  const from = (value && typeof value === 'object' ? value : {}) as Record<
    string,
    unknown
  >;
  const created = new Date(text(from.created_at));
  const id = text(from.id);
  return {
    id: ULID.test(id) ? id : '',
    model: text(from.model),
    outcome: text(from.outcome),
    stopCause: text(from.stop_cause),
    prompt: text(from.prompt),
    text: text(from.text),
    problem: text(from.problem),
    createdAt: isNaN(created.getTime()) ? null : created,
    ttft: figure(from.ttft_ms),
    rate: figure(from.rate),
    rateUnit: from.rate_unit === 'chunks' ? 'chunks' : 'tokens',
    notebook: text(from.notebook),
    tags: Array.isArray(from.tags)
      ? from.tags.slice(0, MOST_TAGS).map(text).filter(Boolean)
      : []
  };
}

/** A sign for an outcome, never without its words beside it. */
export function symbolOf(row: IRow): string {
  return SYMBOLS[row.outcome] ?? '·';
}

/** How it ended, in words. */
export function outcomeOf(row: IRow, trans: TranslationBundle): string {
  const causes: Record<string, string> = {
    button: trans.__('stopped by you'),
    interrupt: trans.__('stopped by an interrupt'),
    api: trans.__('stopped by a call'),
    'limit:time': trans.__('stopped at its time limit'),
    'limit:tokens': trans.__('stopped at its token limit')
  };
  switch (row.outcome) {
    case 'complete':
      return trans.__('complete');
    case 'stopped':
      return causes[row.stopCause] ?? trans.__('stopped');
    case 'truncated':
      return trans.__('truncated');
    case 'failed':
      return trans.__('failed');
    case 'running':
      return trans.__('running');
    default:
      return trans.__('unknown');
  }
}

/** Milliseconds to the first token. */
export function ttftOf(row: IRow): string {
  return row.ttft === null ? '' : duration(row.ttft);
}

/** The rate with its unit. */
export function rateOf(row: IRow, trans: TranslationBundle): string {
  if (row.rate === null) {
    return '';
  }
  return row.rateUnit === 'tokens'
    ? trans.__('%1 tokens/s', rate(row.rate))
    : trans.__('%1 chunks/s', rate(row.rate));
}

/** What was answered, or what went wrong instead. */
export function answerOf(row: IRow): string {
  return oneLine(row.text) || oneLine(row.problem);
}

/** Text folded to one line. */
export function oneLine(words: string): string {
  return words.replace(/\s+/g, ' ').trim();
}

/** How long ago, for times of the last week; a date for those before. */
export function whenOf(date: Date | null, now: Date, locale?: string): string {
  if (!date) {
    return '';
  }
  const seconds = (date.getTime() - now.getTime()) / 1000;
  const ago = new Intl.RelativeTimeFormat(locale, {
    numeric: 'auto',
    style: 'short'
  });
  const passed = Math.max(0, -seconds);
  if (passed < 45) {
    return ago.format(0, 'second');
  }
  if (passed < 3570) {
    return ago.format(-Math.round(passed / 60), 'minute');
  }
  if (passed < 23.5 * 3600) {
    return ago.format(-Math.round(passed / 3600), 'hour');
  }
  if (passed < 6.5 * 86_400) {
    return ago.format(-Math.round(passed / 86_400), 'day');
  }
  const thisYear = date.getFullYear() === now.getFullYear();
  return date.toLocaleDateString(locale, {
    day: 'numeric',
    month: 'short',
    ...(thisYear ? {} : { year: 'numeric' })
  });
}

function text(value: unknown): string {
  return typeof value === 'string' ? value.slice(0, LONGEST) : '';
}

function figure(value: unknown): number | null {
  return typeof value === 'number' && isFinite(value) && value >= 0
    ? value
    : null;
}
