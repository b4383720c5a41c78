/**
 * Colours of code, from JupyterLab's own CodeMirror: its languages, its parsers, its style. A growing text is parsed
 * from where it changed. All of it is fetched with the first block that names a language.
 */
import type { Parser, PartialParse, Tree, TreeFragment } from '@lezer/common';

import { services } from './services';

/** Beyond this, code stays in one colour. */
export const COLOURED = 200_000;

type Tools = {
  fragments: typeof TreeFragment;
  highlightTree: (typeof import('@lezer/highlight'))['highlightTree'];
  style: (typeof import('@jupyterlab/codemirror'))['jupyterHighlightStyle'];
};

let tools: Promise<Tools> | null = null;
const parsers = new Map<string, Promise<[Parser, Tools] | null>>();

/** A stretch of code of one colour. */
export interface IRun {
  text: string;
  className: string;
}

/** The colours of one text in one language, while it grows. */
export class Highlighter {
  private tree: Tree | null = null;
  private fragments: readonly TreeFragment[] = [];
  private parsed = 0;
  private parse: { run: PartialParse; length: number } | null = null;

  constructor(
    private parser: Parser,
    private tools: Tools
  ) {}

  /** Parses on until `until` (of `performance.now`), and says whether all of the code is parsed. */
  advance(code: string, until: number): boolean {
    if (this.tree && this.parsed === code.length) {
      return true;
    }
    if (!this.parse) {
      const changed = { fromA: this.parsed, toA: this.parsed };
      const fragments = this.tools.fragments.applyChanges(this.fragments, [
        { ...changed, fromB: this.parsed, toB: code.length }
      ]);
      this.parse = {
        run: this.parser.startParse(code, fragments),
        length: code.length
      };
    }
    const { run, length } = this.parse;
    for (;;) {
      const tree = run.advance();
      if (tree) {
        this.tree = tree;
        this.parsed = length;
        this.fragments = this.tools.fragments.addTree(tree, this.fragments);
        this.parse = null;
        return length === code.length;
      }
      if (performance.now() > until) {
        return false;
      }
    }
  }

  /** The code between two places, by colour. */
  runs(code: string, from: number, to: number): IRun[] {
    const runs: IRun[] = [];
    let at = from;
    if (this.tree) {
      const put = (start: number, end: number, className: string) => {
        const [first, last] = [Math.max(start, at), Math.min(end, to)];
        if (first >= last) {
          return;
        }
        if (first > at) {
          runs.push({ text: code.slice(at, first), className: '' });
        }
        runs.push({ text: code.slice(first, last), className });
        at = last;
      };
      this.tools.highlightTree(this.tree, this.tools.style, put, from, to);
    }
    if (at < to) {
      runs.push({ text: code.slice(at, to), className: '' });
    }
    return runs;
  }
}

/** A highlighter for a language, or null where there is none. */
export async function highlighter(
  language: string
): Promise<Highlighter | null> {
  const { languages } = services;
  if (!languages || !language || !/^[\w+#.-]{1,40}$/.test(language)) {
    return null;
  }
  let known = parsers.get(language);
  if (!known) {
    known = parserOf(language).catch(() => null);
    parsers.set(language, known);
  }
  const found = await known;
  return found && new Highlighter(...found);
}

async function parserOf(name: string): Promise<[Parser, Tools] | null> {
  const language = await services.languages?.getLanguage(name);
  const parser = language?.support?.language.parser;
  if (!parser) {
    return null;
  }
  tools ??= load();
  return [parser, await tools];
}

async function load(): Promise<Tools> {
  const [common, highlight, codemirror] = await Promise.all([
    import('@lezer/common'),
    import('@lezer/highlight'),
    import('@jupyterlab/codemirror')
  ]);
  return {
    fragments: common.TreeFragment,
    highlightTree: highlight.highlightTree,
    style: codemirror.jupyterHighlightStyle
  };
}
