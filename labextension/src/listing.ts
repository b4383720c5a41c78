/**
 * The output of `%transcripts`: a table with outcome, figures and first words. A click opens the transcript from the
 * server; where that is not possible, the row unfolds what the output itself holds.
 */
import type { IRenderMime } from '@jupyterlab/rendermime-interfaces';
import {
  nullTranslator,
  type TranslationBundle
} from '@jupyterlab/translation';
import { Widget } from '@lumino/widgets';

import { opening } from './opening';
import {
  IRow,
  answerOf,
  oneLine,
  outcomeOf,
  rateOf,
  rowOf,
  symbolOf,
  ttftOf
} from './rows';
import { element } from './view/elements';

/** The MIME type of a list. */
export const LISTING = 'application/vnd.tokenstream.listing+json';

const MOST_ROWS = 500;

/** Draws one list. */
export class ListingRenderer extends Widget implements IRenderMime.IRenderer {
  private trans: TranslationBundle;

  constructor(private options: IRenderMime.IRendererOptions) {
    super();
    this.addClass('ts-Listing');
    this.trans = (options.translator ?? nullTranslator).load(
      'tokenstream-magic'
    );
  }

  async renderModel(model: IRenderMime.IMimeModel): Promise<void> {
    const data = objectOf(model.data[this.options.mimeType]);
    const about = listOf(objectOf(model.metadata.tokenstream).rows);
    const rows = listOf(data.rows)
      .slice(0, MOST_ROWS)
      .map((row, index) =>
        rowOf({ ...objectOf(about[index]), ...objectOf(row) })
      );
    const more =
      (typeof data.left_out === 'number' ? Math.max(0, data.left_out) : 0) +
      Math.max(0, listOf(data.rows).length - MOST_ROWS);
    const parts = [this.table(rows)];
    if (more) {
      parts.push(
        element(
          'div',
          'ts-Listing-more',
          this.trans._n(
            'and %1 more: narrow the list, or look in the side panel',
            'and %1 more: narrow the list, or look in the side panel',
            more
          )
        )
      );
    }
    this.node.replaceChildren(...parts);
  }

  private table(rows: IRow[]): HTMLElement {
    const { trans } = this;
    const table = element('table', 'ts-Listing-table');
    table.setAttribute('aria-label', trans.__('Transcripts'));
    const heads: [string, string][] = [
      ['outcome', trans.__('Outcome')],
      ['words', trans.__('Prompt and answer')],
      ['model', trans.__('Model')],
      ['figure', trans.__('TTFT')],
      ['figure ts-Listing-rate', trans.__('Rate')],
      ['when', trans.__('When')]
    ];
    const head = element('tr', '');
    head.append(
      ...heads.map(([kind, words]) => {
        const cell = element('th', `ts-Listing-${kind}`, words);
        cell.scope = 'col';
        return cell;
      })
    );
    const top = element('thead', '');
    top.append(head);
    const body = element('tbody', '');
    body.append(...rows.map(row => this.row(row)));
    table.append(top, body);
    return table;
  }

  private row(row: IRow): HTMLElement {
    const { trans } = this;
    const line = element('tr', 'ts-Listing-row');
    line.dataset.state = row.outcome;
    const outcome = element('td', 'ts-Listing-outcome');
    const symbol = element('span', 'ts-Kept-symbol', symbolOf(row));
    symbol.setAttribute('aria-hidden', 'true');
    outcome.title = outcomeOf(row, trans);
    outcome.append(symbol, element('span', '', outcome.title));

    const words = element('td', 'ts-Listing-words');
    const button = element(
      'button',
      'ts-Listing-open',
      oneLine(row.prompt) || trans.__('(no text)')
    );
    button.type = 'button';
    button.title = row.id
      ? trans.__('Open transcript %1', row.id)
      : trans.__('Show the first words');
    const answer = element('div', 'ts-Listing-answer', answerOf(row));
    words.append(button, answer);

    const model = element('td', 'ts-Listing-model', row.model);
    model.title = row.model;
    const when = element('td', 'ts-Listing-when');
    if (row.createdAt) {
      const time = element('time', '', shortly(row.createdAt));
      time.title = row.createdAt.toLocaleString();
      time.dateTime = row.createdAt.toISOString();
      when.append(time);
    }
    line.append(
      outcome,
      words,
      model,
      element('td', 'ts-Listing-figure', ttftOf(row)),
      element('td', 'ts-Listing-figure ts-Listing-rate', rateOf(row, trans)),
      when
    );
    line.addEventListener('click', () => {
      // a click that ends a selection of words is none
      if (!window.getSelection()?.toString()) {
        this.open(row, words, button);
      }
    });
    return line;
  }

  private open(row: IRow, words: HTMLElement, button: HTMLElement): void {
    const unfold = (why: string) => {
      const there = words.querySelector('.ts-Listing-whole');
      if (there) {
        there.remove();
        button.setAttribute('aria-expanded', 'false');
        return;
      }
      const whole = element('div', 'ts-Listing-whole');
      whole.append(
        element('div', 'ts-Listing-text', row.prompt),
        element('div', 'ts-Listing-text', row.text || row.problem),
        element('div', 'ts-Listing-why', why)
      );
      words.append(whole);
      button.setAttribute('aria-expanded', 'true');
    };
    if (!row.id || !opening.open) {
      unfold(
        this.trans.__('These are the first words, as this output has them.')
      );
      return;
    }
    opening.open(row.id).catch((error: unknown) => {
      const why = error instanceof Error ? error.message : '';
      unfold(
        `${why} ${this.trans.__('These are the first words, as this output has them.')}`.trim()
      );
    });
  }
}

function shortly(date: Date): string {
  const isToday = date.toDateString() === new Date().toDateString();
  return date.toLocaleString(undefined, {
    ...(isToday ? {} : { dateStyle: 'short' as const }),
    timeStyle: 'short'
  });
}

function objectOf(value: unknown): Record<string, unknown> {
  return value && typeof value === 'object' && !Array.isArray(value)
    ? (value as Record<string, unknown>)
    : {};
}

function listOf(value: unknown): unknown[] {
  return Array.isArray(value) ? value : [];
}

/** What JupyterLab needs to know of it. */
export const listing: IRenderMime.IExtension = {
  id: 'tokenstream-magic:listing',
  rendererFactory: {
    safe: true,
    mimeTypes: [LISTING],
    createRenderer: options => new ListingRenderer(options)
  },
  rank: -20,
  dataType: 'json'
};
