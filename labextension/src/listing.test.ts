// @vitest-environment jsdom
import { nullTranslator } from '@jupyterlab/translation';
import { afterEach, describe, expect, it, vi } from 'vitest';

import { LISTING, ListingRenderer } from './listing';
import { opening } from './opening';

// Lumino asks for it when it is loaded; jsdom has none
vi.hoisted(() => {
  globalThis.DragEvent = class extends MouseEvent {} as typeof DragEvent;
});

const ID = '01HX0000000000000000000001';
const MARKUP = '<img src=x onerror="window.hit = 1">';

async function drawn(data: unknown, about: unknown): Promise<ListingRenderer> {
  const renderer = new ListingRenderer({
    mimeType: LISTING,
    sanitizer: { sanitize: text => text },
    resolver: null,
    linkHandler: null,
    latexTypesetter: null,
    translator: nullTranslator
  });
  await renderer.renderModel({
    data: { [LISTING]: data },
    metadata: { tokenstream: about },
    trusted: false,
    setData: () => undefined
  } as never);
  return renderer;
}

const one = [
  { model: 'acme', outcome: 'failed', prompt: MARKUP, text: '', problem: 'no' }
];

afterEach(() => {
  opening.open = null;
});

describe('the table of %transcripts', () => {
  it('opens what is clicked by its id', async () => {
    const open = vi.fn(() => Promise.resolve());
    opening.open = open;
    const { node } = await drawn({ rows: one }, { rows: [{ id: ID }] });
    node.querySelector('button')!.click();
    expect(open.mock.calls).toEqual([[ID]]);
    expect(node.querySelector('.ts-Listing-whole')).toBeNull();
  });

  it('shows what it has where nothing can be opened, and folds it again', async () => {
    const { node } = await drawn({ rows: one }, {});
    const button = node.querySelector('button')!;
    button.click();
    expect(node.querySelector('.ts-Listing-whole')!.textContent).toContain(
      `${MARKUP}no`
    );
    button.click();
    expect(node.querySelector('.ts-Listing-whole')).toBeNull();
  });

  it('opens nothing by an id that is none', async () => {
    const open = vi.fn(() => Promise.resolve());
    opening.open = open;
    const { node } = await drawn(
      { rows: one },
      { rows: [{ id: '../../api/contents' }] }
    );
    node.querySelector('button')!.click();
    expect(open).not.toHaveBeenCalled();
  });

  it('draws any file as text, and no more of it than can be read', async () => {
    for (const data of [null, 5, [], { rows: 'x' }, { rows: [null, 1] }]) {
      await drawn(data, { rows: MARKUP });
    }
    const { node } = await drawn(
      { rows: Array(5000).fill(one[0]), left_out: 3 },
      null
    );
    expect(node.querySelectorAll('tbody tr')).toHaveLength(500);
    expect(node.textContent).toContain('and 4503 more');
    expect(node.querySelector('img')).toBeNull();
  });
});
