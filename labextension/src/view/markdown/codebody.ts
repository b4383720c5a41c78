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
    const mark = this.fence[0];
    const closing = new RegExp(`(^|\\n)[ \\t]*(\\${mark}*)\\s*$`).exec(text);
    if (!closing || text.length - closing.index > 200) {
      return text;
    }
    if (done) {
      return closing[2].length >= this.fence.length
        ? text.slice(0, closing.index + closing[1].length)
        : text;
    }
    this.held = text.slice(closing.index);
    return text.slice(0, closing.index);
  }
}
