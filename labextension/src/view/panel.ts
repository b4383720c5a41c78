/**
 * Everything measured of a run, folded away under its timeline: each figure with what it means. What is not known is
 * a dash, never a zero. A tick box tints the answer by the gaps between its pieces.
 */
import type { TranslationBundle } from '@jupyterlab/translation';

import { IDisplayed, displayedOf } from '../displayed';
import { duration, rate } from '../format';
import { element, setText } from './elements';
import { type ISettled, notesOf } from './settled';
import { levels } from './tint';
import type { ITimeline } from './timeline-data';

type Kind = 'ms' | 'rate' | 'count' | 'share' | 'text' | 'date';
type Row = [name: string, label: string, kind: Kind, meaning: string];

/** The figures of a run, with the definitions of research/metrics.md. */
export const TIMING: Row[] = [
  [
    'ttfb_ms',
    'TTFB',
    'ms',
    'Time to first byte: from the first byte of the request to the first byte of the answer’s body. A server may send something that is no text first.'
  ],
  [
    'ttft_ms',
    'TTFT',
    'ms',
    'Time to first token: from the first byte of the request to the first generated text, reasoning included. An empty opening chunk does not count.'
  ],
  [
    'ttfa_ms',
    'TTFA',
    'ms',
    'Time to first answer: from the first byte of the request to the first text of the answer itself, after any reasoning.'
  ],
  [
    'e2e_ms',
    'end to end',
    'ms',
    'From the first byte of the request to the last piece of generated text.'
  ],
  [
    'tpot_ms',
    'TPOT',
    'ms',
    'Time per output token after the first: (last − first) / (tokens − 1).'
  ],
  [
    'icl_p50_ms',
    'ICL p50',
    'ms',
    'Inter-chunk latency, median: half of the gaps between pieces are shorter. A piece may hold several tokens.'
  ],
  [
    'icl_p95_ms',
    'ICL p95',
    'ms',
    'Inter-chunk latency: 95 % of the gaps between pieces are shorter.'
  ],
  [
    'icl_max_ms',
    'ICL max',
    'ms',
    'Inter-chunk latency: the longest gap between two pieces.'
  ],
  [
    'output_tokens_per_second',
    'output tokens/s',
    'rate',
    'Output tokens divided by the end-to-end time, the wait for the first included.'
  ],
  [
    'decode_tokens_per_second',
    'decode tokens/s',
    'rate',
    'Tokens per second after the first: 1 / TPOT.'
  ],
  [
    'chunks',
    'chunks',
    'count',
    'Pieces of generated text that arrived. A chunk is not a token.'
  ],
  [
    'chunks_per_second',
    'chunks/s',
    'rate',
    'Pieces per second after the first: (chunks − 1) / (last − first).'
  ],
  [
    'stalls',
    'stalls',
    'count',
    'Gaps between pieces longer than one second and longer than five times the median gap.'
  ],
  [
    'stall_ratio',
    'stalled',
    'share',
    'The part of the time from the first to the last piece that stalls took beyond what counts as a stall.'
  ],
  [
    'stop_latency_ms',
    'stop latency',
    'ms',
    'From the request to stop to the connection being closed.'
  ]
];

const USAGE: Row[] = [
  [
    'input_tokens',
    'input tokens',
    'count',
    'Tokens of the prompt, as the server counts them.'
  ],
  [
    'output_tokens',
    'output tokens',
    'count',
    'Tokens generated, reasoning included.'
  ],
  [
    'reasoning_tokens',
    'reasoning tokens',
    'count',
    'Tokens of reasoning among the output; they may not have been streamed.'
  ],
  [
    'cached_input_tokens',
    'cached input tokens',
    'count',
    'Tokens of the prompt that the server had in its cache.'
  ],
  [
    'source',
    'counted by',
    'text',
    'Where the counts come from: reported by the server, or counted by a tokenizer.'
  ]
];

/** How far the page was behind the network; of messages, which bring one piece or several. */
export const DISPLAY: Row[] = [
  [
    'display_p50_ms',
    'lag p50',
    'ms',
    'From the arrival of a piece at the kernel to its painting in the page: half of the messages to the page were faster.'
  ],
  [
    'display_p99_ms',
    'lag p99',
    'ms',
    'From arrival to painting: 99 % of the messages to the page were faster.'
  ],
  [
    'display_max_ms',
    'lag max',
    'ms',
    'From arrival to painting: the slowest message.'
  ],
  [
    'display_last_ms',
    'lag last',
    'ms',
    'From arrival to painting: the last message.'
  ],
  [
    'display_error_ms',
    'accurate to ±',
    'ms',
    'The page has a clock of its own: how far off these figures may be.'
  ],
  [
    'display_work_ms',
    'work per frame',
    'ms',
    'What a frame took of the page’s main thread, on average.'
  ],
  [
    'display_messages',
    'messages shown',
    'count',
    'Messages that were painted in view; what came while nobody could see the page does not count.'
  ]
];

const RUN: Row[] = [
  ['id', 'id', 'text', 'The transcript’s id in the store.'],
  ['created_at', 'begun', 'date', 'When the run began, in UTC.'],
  ['resolved_model', 'model served', 'text', 'The model the server names.'],
  ['endpoint', 'endpoint', 'text', 'The name of the endpoint that was asked.'],
  ['protocol', 'protocol', 'text', 'The protocol the endpoint speaks.'],
  [
    'system_fingerprint',
    'fingerprint',
    'text',
    'The server’s fingerprint of its configuration, as sent.'
  ],
  [
    'package_version',
    'recorded by',
    'text',
    'The version of tokenstream-magic that measured this.'
  ]
];

/** The disclosure below the timeline of a settled transcript. */
export class Panel {
  readonly node = element('details', 'ts-Panel');
  /** What the reader points at in the tinted text. */
  readonly readout = element('div', 'ts-TintReadout');
  private summary = element('summary', '');
  private tint = element('input', 'ts-TintToggle');
  private tintLine = element('div', 'ts-TintLine');
  private legend = element('span', 'ts-Legend');
  private notes = element('div', 'ts-Notes');
  private groups = element('div', 'ts-Groups');
  private transcript: ISettled | null = null;
  private filled = false;

  constructor(
    private trans: TranslationBundle | null,
    private tinted: (on: boolean) => void
  ) {
    this.summary.textContent = this.say('Timing');
    this.tint.type = 'checkbox';
    const label = element('label', 'ts-TintLabel');
    label.append(this.tint, this.say('Tint the text by the gap before it'));
    this.legend.hidden = this.readout.hidden = true;
    this.tintLine.append(label, this.legend, this.readout);
    // the tick box is next to the text that it tints
    this.node.append(this.summary, this.notes, this.groups, this.tintLine);
    this.node.hidden = true;
    this.node.addEventListener('toggle', () => this.fill());
    this.tint.addEventListener('change', () => this.show(this.tint.checked));
  }

  /** The figures of a transcript; they are drawn when the reader opens the panel. */
  update(transcript: ISettled, timeline: ITimeline | null): void {
    const same = this.transcript?.about === transcript.about;
    this.transcript = transcript;
    this.node.hidden = !transcript.about.timing;
    this.tintLine.hidden = !timeline || timeline.at.length < 2;
    if (!same) {
      this.filled = false;
      const notes = notesOf(transcript).length;
      const count = `${notes} ${notes === 1 ? this.say('note') : this.say('notes')}`;
      const title = measuredOf(transcript)
        ? this.say('Timing')
        : this.say('Run');
      setText(this.summary, notes ? `${title} · ${count}` : title);
      this.drawLegend(timeline);
      this.fill();
    }
  }

  /** Whether the text is tinted now. */
  get isTinted(): boolean {
    return this.tint.checked;
  }

  /** Turns the tint off, as when a replay begins. */
  untint(): void {
    if (this.tint.checked) {
      this.tint.checked = false;
      this.show(false);
    }
  }

  hide(): void {
    this.untint();
    this.node.hidden = true;
  }

  private show(on: boolean): void {
    this.legend.hidden = this.readout.hidden = !on;
    setText(
      this.readout,
      this.say('Point at a piece to see when it came and after which gap')
    );
    this.tinted(on);
  }

  private fill(): void {
    if (!this.node.open || this.filled || !this.transcript) {
      return;
    }
    this.filled = true;
    const { about } = this.transcript;
    this.notes.replaceChildren(
      ...notesOf(this.transcript).map(note =>
        element('div', 'ts-Note', `${this.say('Noted:')} ${note}`)
      )
    );
    const timing = about.timing ?? {};
    const displayed = displayedOf(
      (about.timeline as Record<string, unknown> | null | undefined)
        ?.displayed_us
    );
    const served = Object.entries(timing.server ?? {}).map(([name]): Row => [
      name,
      name,
      'text',
      this.say('The server’s own figure, as it sent it.')
    ]);
    this.groups.replaceChildren(
      ...(measuredOf(this.transcript)
        ? [
            this.group(this.say('Timing'), TIMING, timing),
            this.group(this.say('Usage'), USAGE, about.usage ?? {})
          ]
        : []),
      ...(displayed
        ? [this.group(this.say('Display'), DISPLAY, inMs(displayed))]
        : []),
      this.group(this.say('Run'), RUN, about),
      ...(served.length
        ? [
            this.group(
              this.say('The server says'),
              served,
              timing.server as Record<string, unknown>
            )
          ]
        : [])
    );
  }

  private group(
    title: string,
    rows: Row[],
    values: Record<string, unknown>
  ): HTMLElement {
    const group = element('div', 'ts-Group');
    const list = element('dl', 'ts-List');
    list.setAttribute('aria-label', title);
    for (const [name, label, kind, meaning] of rows) {
      const line = element('div', 'ts-Row');
      line.dataset.figure = name;
      line.title = this.say(meaning);
      const term = element('dt', '', this.say(label));
      term.setAttribute('aria-description', this.say(meaning));
      const value = element('dd', '');
      const words = inWords(values[name], kind);
      if (words === null) {
        const dash = element('span', '', '—');
        dash.setAttribute('aria-hidden', 'true');
        value.append(dash, element('span', 'ts-Aside', this.say('unknown')));
      } else {
        value.textContent = words;
      }
      line.append(term, value);
      list.append(line);
    }
    group.append(element('div', 'ts-GroupTitle', title), list);
    return group;
  }

  private drawLegend(timeline: ITimeline | null): void {
    this.legend.replaceChildren();
    const bounds = timeline ? levels(timeline) : [];
    bounds.forEach((bound, i) => {
      const level = i + 1 + 3 - bounds.length;
      const swatch = element('span', 'ts-Piece', `> ${duration(bound)}`);
      swatch.dataset.gap = String(level);
      this.legend.append(swatch);
    });
    this.legend.append(
      element('span', 'ts-Aside-shown', this.say('shown as plain text'))
    );
  }

  private say(text: string): string {
    return this.trans ? this.trans.__(text) : text;
  }
}

/** Whether anything was measured: of a run that never reached a server there is nothing but dashes. */
function measuredOf({ about }: ISettled): boolean {
  const { server, ...timing } = about.timing ?? {};
  return [timing, server ?? {}, about.usage ?? {}].some(figures =>
    Object.values(figures).some(value => typeof value === 'number' && value > 0)
  );
}

function inMs(displayed: IDisplayed): Record<string, number> {
  const { messages, p50, p99, most, last, error, work } = displayed;
  return {
    display_p50_ms: p50 / 1000,
    display_p99_ms: p99 / 1000,
    display_max_ms: most / 1000,
    display_last_ms: last / 1000,
    display_error_ms: error / 1000,
    display_work_ms: work / 1000,
    display_messages: messages
  };
}

/** A figure for a reader; null when it is not known. */
export function inWords(value: unknown, kind: Kind): string | null {
  if (value === null || value === undefined || value === '') {
    return null;
  }
  if (kind === 'text') {
    return typeof value === 'number'
      ? String(Number(value.toPrecision(6)))
      : typeof value === 'string'
        ? value
        : JSON.stringify(value);
  }
  if (kind === 'date') {
    // 2026-01-31T12:34:56.789+00:00
    return typeof value === 'string'
      ? value.slice(0, 19).replace('T', ' ')
      : null;
  }
  if (typeof value !== 'number' || !Number.isFinite(value)) {
    return null;
  }
  switch (kind) {
    case 'ms':
      return duration(value);
    case 'rate':
      return rate(value);
    case 'share':
      return `${(100 * value).toFixed(1)} %`;
    default:
      return String(value);
  }
}
