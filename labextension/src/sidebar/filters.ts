/** What narrows the list: words at once, outcome and model beside them, the rest folded away. */
import type { TranslationBundle } from '@jupyterlab/translation';
import {
  filterIcon,
  refreshIcon,
  type LabIcon
} from '@jupyterlab/ui-components';

import { element } from '../view/elements';
import { EVERYTHING } from './list';
import type { IFilters } from './requests';

const TYPING_MS = 250;

/** The search box and the filters. */
export class FilterBar {
  readonly node = element('div', 'ts-Filters');
  readonly search = element('input', 'ts-Field ts-Filters-search');
  private outcome = element('select', 'ts-Field');
  private model = element('select', 'ts-Field');
  private since = element('select', 'ts-Field');
  private tag = element('input', 'ts-Field');
  private notebook = element('input', 'ts-Field');
  private fold: HTMLButtonElement;
  private clear = element('button', 'ts-Button ts-Filters-clear');
  private more = element('div', 'ts-Filters-more');
  private timer: ReturnType<typeof setTimeout> | null = null;

  /** `changed` is told after the last key, and at once of everything else. */
  constructor(
    private trans: TranslationBundle,
    private changed: (filters: IFilters) => void,
    refresh: () => void
  ) {
    this.search.type = 'search';
    this.search.placeholder = trans.__('Search');
    this.search.setAttribute('aria-label', trans.__('Search transcripts'));
    this.search.spellcheck = false;
    this.fold = this.button(filterIcon, trans.__('More filters'), () =>
      this.unfold(this.more.hidden)
    );
    this.more.id = 'ts-filters-more';
    this.fold.setAttribute('aria-controls', this.more.id);
    const again = this.button(
      refreshIcon,
      trans.__('Refresh the list'),
      refresh
    );
    const first = element('div', 'ts-Filters-line');
    first.append(this.search, this.fold, again);

    options(this.outcome, trans.__('Outcome'), trans.__('Outcome'), [
      ['complete', trans.__('Complete')],
      ['stopped', trans.__('Stopped')],
      ['truncated', trans.__('Truncated')],
      ['failed', trans.__('Failed')],
      ['running', trans.__('Running')]
    ]);
    options(this.model, trans.__('Model'), trans.__('Model'), []);
    options(this.since, trans.__('Since'), trans.__('Since'), [
      ['today', trans.__('Today')],
      ['1d', trans.__('Last 24 hours')],
      ['7d', trans.__('Last 7 days')],
      ['30d', trans.__('Last 30 days')]
    ]);
    const second = element('div', 'ts-Filters-grid');
    second.append(this.outcome, this.model);

    this.tag.placeholder = trans.__('Tag');
    this.tag.setAttribute('aria-label', trans.__('Tag'));
    this.notebook.placeholder = trans.__('Notebook');
    this.notebook.setAttribute(
      'aria-label',
      trans.__('A part of the path of the notebook')
    );
    this.clear.type = 'button';
    this.clear.textContent = trans.__('Clear all');
    this.clear.addEventListener('click', () => this.reset());
    const third = element('div', 'ts-Filters-grid');
    third.append(this.since, this.tag, this.notebook, this.clear);
    this.more.append(third);
    this.node.setAttribute('role', 'search');
    this.node.append(first, second, this.more);
    this.unfold(false);

    for (const field of [this.search, this.tag, this.notebook]) {
      field.maxLength = 500;
      field.addEventListener('input', () => this.soon());
      field.addEventListener('keydown', event => {
        if (event.key === 'Enter') {
          this.now();
        }
      });
    }
    for (const field of [this.outcome, this.model, this.since]) {
      field.addEventListener('change', () => this.now());
    }
  }

  /** What is asked for. */
  get value(): IFilters {
    return {
      query: this.search.value.trim(),
      outcome: this.outcome.value,
      model: this.model.value,
      since: this.since.value,
      tag: this.tag.value.trim(),
      notebook: this.notebook.value.trim()
    };
  }

  /** The models there are to choose from. The one that is chosen stays. */
  offer(models: string[]): void {
    const chosen = this.model.value;
    const names =
      models.includes(chosen) || !chosen ? models : [chosen, ...models];
    options(
      this.model,
      this.trans.__('Model'),
      this.trans.__('Model'),
      names.map(name => [name, name])
    );
    this.model.value = chosen;
  }

  /** Narrows nothing any more. */
  reset(): void {
    const none = EVERYTHING;
    this.search.value = none.query;
    this.outcome.value = this.model.value = this.since.value = '';
    this.tag.value = this.notebook.value = '';
    this.now();
    this.search.focus();
  }

  dispose(): void {
    if (this.timer !== null) {
      clearTimeout(this.timer);
    }
  }

  private unfold(open: boolean): void {
    this.more.hidden = !open;
    this.fold.setAttribute('aria-expanded', String(open));
  }

  private soon(): void {
    this.dispose();
    this.timer = setTimeout(() => this.now(), TYPING_MS);
  }

  private now(): void {
    this.dispose();
    this.timer = null;
    const value = this.value;
    const folded = [value.since, value.tag, value.notebook].some(Boolean);
    this.fold.classList.toggle('ts-mod-on', folded);
    this.changed(value);
  }

  private button(
    icon: LabIcon,
    label: string,
    act: () => void
  ): HTMLButtonElement {
    const made = element('button', 'ts-IconButton');
    made.type = 'button';
    made.title = label;
    made.setAttribute('aria-label', label);
    made.append(icon.element({ tag: 'span', stylesheet: 'toolbarButton' }));
    made.addEventListener('click', act);
    return made;
  }
}

/** Fills a choice: the first one asks for nothing. */
function options(
  select: HTMLSelectElement,
  label: string,
  any: string,
  choices: [string, string][]
): void {
  select.setAttribute('aria-label', label);
  select.replaceChildren(
    ...[['', any], ...choices].map(([value, words]) => {
      const option = element('option', '', words);
      option.value = value;
      return option;
    })
  );
}
