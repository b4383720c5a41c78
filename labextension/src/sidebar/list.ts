/** The list as a value: what is asked for, what has come of it, which one is chosen. No DOM. */
import { Signal } from '@lumino/signaling';

import type { IRow } from '../rows';
import { IFilters, ILibrary, Refusal } from './requests';

const PAGE = 50;
const MOST = 200;

/** A list that nothing narrows. */
export const EVERYTHING: IFilters = {
  query: '',
  outcome: '',
  model: '',
  tag: '',
  notebook: '',
  since: ''
};

/** What the panel draws. */
export class TranscriptList {
  rows: IRow[] = [];
  filters: IFilters = EVERYTHING;
  selected = '';
  /** Whether an answer is awaited for what is not there yet. */
  loading = false;
  problem: Refusal | null = null;
  readonly changed = new Signal<this, void>(this);
  private cursor: string | null = null;
  private question = 0;
  private asked = false;

  constructor(private library: ILibrary) {}

  /** Whether there are more than are here. */
  get hasMore(): boolean {
    return this.cursor !== null;
  }

  /** Whether something narrows the list. */
  get filtered(): boolean {
    return Object.values(this.filters).some(Boolean);
  }

  /** Whether the list was never there. */
  get fresh(): boolean {
    return !this.asked;
  }

  /** The chosen row. */
  get current(): IRow | null {
    return this.rows.find(row => row.id === this.selected) ?? null;
  }

  /** Narrows the list to something else, from its beginning. */
  async search(filters: Partial<IFilters>): Promise<void> {
    this.filters = { ...this.filters, ...filters };
    await this.load(PAGE, null);
  }

  /** Asks again for what is here, when there may be news. Rows that stay keep their place. */
  async refresh(): Promise<void> {
    await this.load(
      Math.min(MOST, Math.max(PAGE, this.rows.length)),
      this.rows
    );
  }

  /** The next page. */
  async more(): Promise<void> {
    const cursor = this.cursor;
    if (cursor === null || this.loading) {
      return;
    }
    const question = ++this.question;
    this.loading = true;
    this.changed.emit();
    try {
      const page = await this.library.list(this.filters, PAGE, cursor);
      if (question === this.question) {
        const here = new Set(this.rows.map(row => row.id));
        this.rows = [
          ...this.rows,
          ...page.rows.filter(row => !here.has(row.id))
        ];
        this.cursor = page.cursor;
      }
    } catch (error) {
      this.fail(error, question);
    }
    this.settle(question);
  }

  /** Removes one for good; the one below it is chosen then. */
  async remove(id: string): Promise<void> {
    await this.library.remove(id);
    const at = this.rows.findIndex(row => row.id === id);
    this.rows = this.rows.filter(row => row.id !== id);
    if (this.selected === id) {
      this.selected = this.rows[Math.min(at, this.rows.length - 1)]?.id ?? '';
    }
    this.changed.emit();
  }

  /** Chooses a row. */
  select(id: string): void {
    if (this.selected !== id) {
      this.selected = id;
      this.changed.emit();
    }
  }

  /** Chooses another row, `by` rows further down; the first when there was none. */
  move(by: number): void {
    const last = this.rows.length - 1;
    const at = this.rows.findIndex(row => row.id === this.selected);
    const to = at < 0 ? (by < 0 ? last : 0) : at + by;
    if (last >= 0) {
      this.select(this.rows[Math.max(0, Math.min(last, to))].id);
    }
  }

  /** `before` are rows that stay below what comes, null when none do. An answer to an older question is dropped. */
  private async load(limit: number, before: IRow[] | null): Promise<void> {
    const question = ++this.question;
    this.loading = true;
    this.changed.emit();
    try {
      const page = await this.library.list(this.filters, limit);
      if (question === this.question) {
        const last = page.rows[page.rows.length - 1]?.id;
        const at = before?.findIndex(row => row.id === last) ?? -1;
        const below =
          page.cursor !== null && at >= 0 ? before!.slice(at + 1) : [];
        this.rows = [...page.rows, ...below];
        this.cursor = below.length ? this.cursor : page.cursor;
        this.problem = null;
        this.asked = true;
        if (!this.current) {
          this.selected = '';
        }
      }
    } catch (error) {
      this.fail(error, question);
    }
    this.settle(question);
  }

  private fail(error: unknown, question: number): void {
    if (question === this.question) {
      this.problem =
        error instanceof Refusal ? error : new Refusal(String(error));
      this.asked = true;
    }
  }

  private settle(question: number): void {
    if (question === this.question) {
      this.loading = false;
      this.changed.emit();
    }
  }
}
