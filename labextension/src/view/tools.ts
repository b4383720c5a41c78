/** Tool calls: a block each, the arguments laid out as they come. */
import type { ITool } from '../state';
import { element, setText } from './elements';

/** Beyond this many characters arguments are shown as they came. */
const LAID_OUT = 20_000;

/** The tool calls of one answer. */
export class Tools {
  readonly node = element('div', 'ts-Tools');
  private shown: { call: HTMLElement; raw: string }[] = [];

  constructor(private label: string) {
    this.node.hidden = true;
  }

  /** Draws the calls; only those that changed. */
  update(calls: readonly Partial<ITool>[]): void {
    while (this.shown.length > calls.length) {
      this.shown.pop()?.call.remove();
    }
    calls.forEach((call, index) => {
      const shown = (this.shown[index] ??= this.open());
      const [name, body] = shown.call.children as unknown as HTMLElement[];
      setText(name.lastElementChild as HTMLElement, String(call?.name ?? '?'));
      const raw = String(call?.arguments ?? '');
      if (raw !== shown.raw) {
        shown.raw = raw;
        setText(body, raw.length > LAID_OUT ? raw : laidOut(raw));
        body.hidden = !raw;
      }
    });
    this.node.hidden = calls.length === 0;
  }

  private open(): { call: HTMLElement; raw: string } {
    const call = element('div', 'ts-Tool');
    const name = element('div', 'ts-ToolName');
    name.append(
      element('span', 'ts-Name', this.label),
      ' ',
      element('span', 'ts-Value')
    );
    const body = element('pre', 'ts-Arguments');
    body.hidden = true;
    call.append(name, body);
    this.node.append(call);
    return { call, raw: '' };
  }
}

/** JSON with line ends and two spaces a level, however much of it there is; anything else as it is. */
export function laidOut(json: string): string {
  if (!/^\s*[[{]/.test(json)) {
    return json;
  }
  const out: string[] = [];
  let depth = 0;
  let inString = false;
  let fresh = false; // a bracket was opened and holds nothing yet
  for (let i = 0; i < json.length; i++) {
    const c = json[i];
    if (inString) {
      out.push(c);
      if (c === '\\' && i + 1 < json.length) {
        out.push(json[++i]);
      } else if (c === '"') {
        inString = false;
      }
      continue;
    }
    if (/\s/.test(c)) {
      continue;
    }
    const closes = c === '}' || c === ']';
    if (closes) {
      depth = Math.max(0, depth - 1);
      if (!fresh) {
        out.push('\n', '  '.repeat(depth));
      }
    } else if (fresh) {
      out.push('\n', '  '.repeat(depth));
    }
    fresh = false;
    out.push(c);
    if (c === '"') {
      inString = true;
    } else if (c === '{' || c === '[') {
      depth = Math.min(depth + 1, 40);
      fresh = true;
    } else if (c === ',') {
      out.push('\n', '  '.repeat(depth));
    } else if (c === ':') {
      out.push(' ');
    }
  }
  return out.join('');
}
