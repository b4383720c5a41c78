/**
 * The side panel: a search box, filters and the transcripts that match, newest first. The list is a listbox: the keys
 * move through it, Enter opens, and the actions below it are for the row that is chosen.
 */
import type { TranslationBundle } from '@jupyterlab/translation';
import type { Message } from '@lumino/messaging';
import { Widget } from '@lumino/widgets';

import type { IRow } from '../rows';
import { element, setText } from '../view/elements';
import { FilterBar } from './filters';
import { transcriptsIcon } from './icon';
import { TranscriptList } from './list';
import type { ILibrary } from './requests';
import { RowView } from './row';

const PAGE_ROWS = 6;

/** What can be done with a transcript. */
export interface IAction {
  label: string;
  title: string;
  run(row: IRow): void;
}

/** The panel in the left area. */
export class TranscriptPanel extends Widget {
  readonly list: TranscriptList;
  private bar: FilterBar;
  private views = new Map<string, RowView>();
  private status = element('div', 'ts-Library-status');
  private scroller = element('div', 'ts-Library-scroller');
  private box = element('div', 'ts-Library-list');
  private more = element('button', 'ts-Button ts-Library-more');
  private note = element('div', 'ts-Library-note');
  private actions = element('div', 'ts-Library-actions');
  private buttons: HTMLButtonElement[];
  private watcher: IntersectionObserver | null = null;
  private stale = true;

  constructor(
    private library: ILibrary,
    private trans: TranslationBundle,
    private open: (row: IRow) => void,
    actions: IAction[],
    private remove: (row: IRow) => void
  ) {
    super();
    this.id = 'tokenstream-transcripts';
    this.addClass('ts-Library');
    this.title.icon = transcriptsIcon;
    this.title.caption = trans.__('Transcripts');
    this.node.setAttribute('role', 'region');
    this.node.setAttribute('aria-label', trans.__('Transcripts'));
    this.list = new TranscriptList(library);
    this.list.changed.connect(this.draw, this);
    this.bar = new FilterBar(
      trans,
      filters => {
        this.scroller.scrollTop = 0;
        void this.list.search(filters);
      },
      () => this.refresh()
    );
    this.status.setAttribute('role', 'status');
    this.box.setAttribute('role', 'listbox');
    this.box.setAttribute('aria-label', trans.__('Transcripts, newest first'));
    this.box.tabIndex = 0;
    this.more.type = 'button';
    this.more.textContent = trans.__('Show more');
    this.more.addEventListener('click', () => void this.list.more());
    this.scroller.append(this.box, this.more, this.note);
    this.actions.setAttribute('role', 'group');
    this.actions.setAttribute(
      'aria-label',
      trans.__('Actions for the chosen transcript')
    );
    this.buttons = actions.map(action => {
      const button = element('button', 'ts-Button', action.label);
      button.type = 'button';
      button.title = action.title;
      button.addEventListener('click', () => {
        if (this.list.current) {
          action.run(this.list.current);
        }
      });
      return button;
    });
    this.actions.append(...this.buttons);
    const heading = element('div', 'ts-Library-title', trans.__('Transcripts'));
    this.node.append(
      heading,
      this.bar.node,
      this.status,
      this.scroller,
      this.actions
    );
    this.box.addEventListener('keydown', event => this.key(event));
    this.box.addEventListener('click', event => {
      const row = this.rowAt(event);
      if (row) {
        this.list.select(row.id);
        this.open(row);
      }
    });
    // the menu is for the row it was opened on
    this.box.addEventListener('contextmenu', event => {
      const row = this.rowAt(event);
      if (row) {
        this.list.select(row.id);
      }
    });
    this.draw();
  }

  /** There may be news: asked for now when the panel is seen, and otherwise when it will be. */
  refresh(): void {
    this.stale = true;
    if (this.isVisible) {
      this.stale = false;
      void this.list.refresh();
      this.library.models().then(
        models => this.bar.offer(models),
        () => undefined // the list says what is wrong
      );
    }
  }

  /** Puts the keyboard into the list, or into the search box when there is nothing in it. */
  focusList(): void {
    (this.list.rows.length ? this.box : this.bar.search).focus();
  }

  dispose(): void {
    this.watcher?.disconnect();
    this.bar.dispose();
    super.dispose();
  }

  protected onAfterShow(message: Message): void {
    super.onAfterShow(message);
    this.refresh();
  }

  protected onAfterAttach(message: Message): void {
    super.onAfterAttach(message);
    if (typeof IntersectionObserver !== 'undefined') {
      this.watcher = new IntersectionObserver(
        entries => {
          if (entries.some(entry => entry.isIntersecting)) {
            void this.list.more();
          }
        },
        { root: this.scroller, rootMargin: '200px' }
      );
      this.watcher.observe(this.more);
    }
    if (this.stale) {
      this.refresh();
    }
  }

  protected onBeforeDetach(message: Message): void {
    this.watcher?.disconnect();
    this.watcher = null;
    super.onBeforeDetach(message);
  }

  protected onActivateRequest(message: Message): void {
    super.onActivateRequest(message);
    this.bar.search.focus();
  }

  private draw(): void {
    const { list, trans } = this;
    const now = new Date();
    const kept = new Set(list.rows.map(row => row.id));
    for (const [id, view] of this.views) {
      if (!kept.has(id)) {
        view.node.remove();
        this.views.delete(id);
      }
    }
    list.rows.forEach((row, index) => {
      let view = this.views.get(row.id);
      if (!view) {
        view = new RowView(row.id, trans);
        this.views.set(row.id, view);
      }
      view.update(row, row.id === list.selected, now);
      const there = this.box.children[index];
      if (there !== view.node) {
        this.box.insertBefore(view.node, there ?? null);
      }
    });
    const selected = list.current;
    if (selected) {
      this.box.setAttribute('aria-activedescendant', `ts-kept-${selected.id}`);
    } else {
      this.box.removeAttribute('aria-activedescendant');
    }
    this.box.setAttribute('aria-busy', String(list.loading));
    this.box.hidden = list.rows.length === 0;
    this.more.hidden = !list.hasMore;
    this.node.classList.toggle('ts-mod-loading', list.loading);
    this.actions.hidden = !selected;
    setText(this.status, this.words());
    this.status.hidden = !this.status.textContent;
    this.explain();
  }

  /** How many there are, for everyone, and read aloud when it changes. */
  private words(): string {
    const { list, trans } = this;
    const count = list.rows.length;
    if (list.problem || list.fresh || !count) {
      return list.filtered && !list.problem && !list.fresh && !list.loading
        ? trans.__('No matches')
        : '';
    }
    return list.hasMore
      ? trans.__('The newest %1, more below', count)
      : trans._n('%1 transcript', '%1 transcripts', count);
  }

  /** What stands in the place of rows: nothing yet, nothing that matches, or what is wrong. */
  private explain(): void {
    const { list, trans } = this;
    const said: [string, string][] = [];
    let retry = false;
    if (list.problem?.missing) {
      said.push(
        ['title', trans.__('The server cannot list transcripts')],
        [
          'text',
          trans.__(
            'The part of tokenstream-magic that runs in the Jupyter server is not loaded. Install the package where the server runs, enable it with the command below, and start the server again. In a notebook, %transcripts lists them too.'
          )
        ],
        ['code', 'jupyter server extension enable tokenstream_magic.labserver']
      );
      retry = true;
    } else if (list.problem) {
      said.push(
        ['title', trans.__('The transcripts could not be read')],
        [
          'text',
          [list.problem.message, list.problem.hint].filter(Boolean).join(' ') ||
            trans.__('The Jupyter server does not answer.')
        ]
      );
      retry = true;
    } else if (list.fresh) {
      said.push(['text', list.loading ? trans.__('Loading…') : '']);
    } else if (!list.rows.length && !list.loading && list.filtered) {
      said.push(
        ['title', trans.__('No transcript matches')],
        [
          'text',
          trans.__(
            'Every word must be in one transcript, or the beginning of one that is. "Two words" between quotes belong together.'
          )
        ]
      );
    } else if (!list.rows.length && !list.loading) {
      said.push(
        ['title', trans.__('No transcripts yet')],
        [
          'text',
          trans.__(
            // two signs for each: one is taken for a place to fill in
            'Every run of a %%%%stream cell is kept here, also those that were stopped or failed. Run this in a notebook:'
          )
        ],
        [
          'code',
          '%load_ext tokenstream_magic\n\n%%stream local\nName three rivers.'
        ]
      );
    }
    this.note.hidden = said.length === 0;
    const key = JSON.stringify([said, retry]);
    if (this.note.dataset.key === key) {
      return;
    }
    this.note.dataset.key = key;
    this.note.replaceChildren(
      ...said.map(([kind, words]) =>
        kind === 'code'
          ? element('pre', 'ts-Library-code', words)
          : element('p', `ts-Library-${kind}`, words)
      )
    );
    if (retry || (list.filtered && said.length && !list.fresh)) {
      const button = element(
        'button',
        'ts-Button',
        retry ? trans.__('Try again') : trans.__('Clear the filters')
      );
      button.type = 'button';
      button.addEventListener('click', () =>
        retry ? this.refresh() : this.bar.reset()
      );
      this.note.append(button);
    }
  }

  private key(event: KeyboardEvent): void {
    if (event.altKey || event.ctrlKey || event.metaKey) {
      return;
    }
    const steps: Record<string, number> = {
      ArrowDown: 1,
      ArrowUp: -1,
      PageDown: PAGE_ROWS,
      PageUp: -PAGE_ROWS,
      Home: -Infinity,
      End: Infinity
    };
    const row = this.list.current;
    if (event.key in steps) {
      this.list.move(steps[event.key]);
      this.reveal();
    } else if ((event.key === 'Enter' || event.key === ' ') && row) {
      this.open(row);
    } else if (event.key === 'Delete' && row) {
      this.remove(row);
    } else {
      return;
    }
    event.preventDefault();
    event.stopPropagation();
  }

  private reveal(): void {
    const view = this.views.get(this.list.selected);
    view?.node.scrollIntoView?.({ block: 'nearest' });
  }

  private rowAt(event: Event): IRow | null {
    const node = (event.target as Element).closest<HTMLElement>('.ts-Kept');
    return this.list.rows.find(row => row.id === node?.dataset.id) ?? null;
  }
}
