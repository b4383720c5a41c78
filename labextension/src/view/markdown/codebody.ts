/** An answer that is code as a whole, with or without a fence around it. */
import type { IBody } from '../text';
import { CodeBlock } from './code';

const FENCE = /^\s*(`{3,}|~{3,})([^\n]*)\n/;
const MAY_BE_FENCE = /^\s*(`{1,}[^`\n]*|~{1,}[^\n]*)?$/;

/** Draws one code block into a box. */
export class CodeBody implements IBody {
  private block: CodeBlock | null = null;
  private held = '';
  private fence = '';

  constructor(private node: HTMLElement) {}

  append(more: string, done: boolean): void {
    let text = this.held + more;
    this.held = '';
    if (!this.block) {
      const opening = FENCE.exec(text);
      if (!opening && !done && text.length < 200 && MAY_BE_FENCE.test(text)) {
        this.held = text;
        return;
      }
      this.fence = opening?.[1] ?? '';
      this.block = new CodeBlock(opening?.[2] ?? '');
      this.node.appendChild(this.block.node);
      text = text.slice(opening?.[0].length ?? 0);
    }
    this.block.append(this.withoutClosing(text, done));
    if (done) {
      this.block.finish();
    }
  }

  dispose(): void {
    this.held = '';
  }

  /** The fence that closes it is held back while it may be the end, and left out when it is. */
  private withoutClosing(text: string, done: boolean): string {
    if (!this.fence) {
      return text;
    }
    const closing = closingOf(text, this.fence[0]);
    if (!closing || text.length - closing.at > 200) {
      return text;
    }
    if (done) {
      return closing.marks >= this.fence.length
        ? text.slice(0, closing.from)
        : text;
    }
    this.held = text.slice(closing.at);
    return text.slice(0, closing.at);
  }
}

/**
 * The end of a text that may be a closing fence: behind the last line end a number of marks, or blanks alone. `at` is
 * that line end, `from` is behind it. Looked for from the end: blanks and line ends may be many.
 */
function closingOf(
  text: string,
  mark: string
): { at: number; from: number; marks: number } | null {
  const said = text.trimEnd();
  const at = said.lastIndexOf('\n');
  const line = said.slice(at + 1).replace(/^[ \t]+/, '');
  if (!said || (line && line === mark.repeat(line.length))) {
    return { at: Math.max(at, 0), from: at + 1, marks: line.length };
  }
  const end = text.indexOf('\n', said.length);
  return end < 0 ? null : { at: end, from: end + 1, marks: 0 };
}
