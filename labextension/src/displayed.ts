/**
 * How far this page was behind the network, as the kernel worked it out from the page's own reports. The last report comes
 * when the answer is settled, so the settled output was made without it: these few figures are put into its metadata
 * afterwards, and not the whole output sent again.
 */
import { MIME } from './state';

const NAMES = [
  'messages',
  'p50',
  'p99',
  'most',
  'last',
  'error',
  'work'
] as const;

/** `Displayed` of timing/timeline.py: a count of messages, and microseconds. */
export type IDisplayed = Record<(typeof NAMES)[number], number>;

type Fields = Record<string, unknown>;

interface ICell {
  readonly outputs?: IOutputs;
}
interface IOutputs {
  readonly length: number;
  get(index: number): { toJSON(): unknown };
  set(index: number, value: unknown): void;
}

/** The figures in what a kernel or a file says; null when they are not there, or are none. */
export function displayedOf(value: unknown): IDisplayed | null {
  const given = fieldsOf(value);
  const figures = NAMES.map(name => [name, given?.[name]] as const);
  return figures.every(([, figure]) => isFigure(figure))
    ? (Object.fromEntries(figures) as IDisplayed)
    : null;
}

/** Whether both say the same. */
export function isSame(one: IDisplayed | null, other: IDisplayed | null) {
  return one && other ? NAMES.every(n => one[n] === other[n]) : one === other;
}

/**
 * Puts the figures of run `id` into the settled outputs that show it, alone or in a column, where they say something else.
 * Nothing else is changed, and an output that is not, or no longer, of this run not at all. Returns whether there is one.
 */
export function putDisplayed(
  cells: Iterable<ICell>,
  id: string,
  displayed: IDisplayed
): boolean {
  let found = false;
  for (const { outputs } of cells) {
    for (let index = 0; index < (outputs?.length ?? 0); index++) {
      const output = fieldsOf(outputs!.get(index).toJSON());
      const shown = fieldsOf(fieldsOf(output?.data)?.[MIME]);
      if (
        output?.output_type !== 'display_data' ||
        shown?.status !== 'settled'
      ) {
        continue;
      }
      const metadata = fieldsOf(output.metadata);
      const before = fieldsOf(metadata?.tokenstream);
      const tokenstream = before && put(before, id, displayed);
      found ||= !!tokenstream;
      if (tokenstream && tokenstream !== before) {
        outputs!.set(index, {
          ...output,
          metadata: { ...metadata, tokenstream }
        });
      }
    }
  }
  return found;
}

/** `about` with the figures, the very same when it has them, null when it is of other runs. */
function put(about: Fields, id: string, displayed: IDisplayed): Fields | null {
  if (!Array.isArray(about.columns)) {
    return putOne(about, id, displayed);
  }
  const before = about.columns as unknown[];
  const own = before.map(column => {
    const one = fieldsOf(column);
    return one && putOne(one, id, displayed);
  });
  if (!own.some(Boolean)) {
    return null;
  }
  const columns = before.map((column, i) => own[i] ?? column);
  return columns.every((column, i) => column === before[i])
    ? about
    : { ...about, columns };
}

function putOne(
  about: Fields,
  id: string,
  displayed: IDisplayed
): Fields | null {
  const timeline = fieldsOf(about.timeline);
  if (about.id !== id || !timeline) {
    return null;
  }
  return isSame(displayedOf(timeline.displayed_us), displayed)
    ? about
    : { ...about, timeline: { ...timeline, displayed_us: { ...displayed } } };
}

function isFigure(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

function fieldsOf(value: unknown): Fields | null {
  return value && typeof value === 'object' && !Array.isArray(value)
    ? (value as Fields)
    : null;
}
