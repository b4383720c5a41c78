/**
 * The MIME renderer: the view of a transcript. Live while a model with its id is in this page, settled when the
 * output says so, and otherwise what had been saved. Model text only ever becomes text nodes.
 */
import type { IRenderMime } from '@jupyterlab/rendermime-interfaces';
import type { TranslationBundle } from '@jupyterlab/translation';
import { Widget } from '@lumino/widgets';

import { listing } from './listing';
import { IStream, added, streams } from './registry';
import { MIME } from './state';
import { ColumnsView } from './view/columns';
import { StreamView } from './view/stream';

/** More columns than this are left out. */
const MOST_COLUMNS = 32;

/** Draws one output. The same instance is kept while the output changes, so nothing flickers. */
export class TranscriptRenderer
  extends Widget
  implements IRenderMime.IRenderer
{
  private single: StreamView | null = null;
  private several: ColumnsView | null = null;
  /** The streams of this output, one or a column each. */
  private bound: { id: string; stream: IStream | null }[] = [];
  private changes: (() => void)[] = [];

  constructor(private options: IRenderMime.IRendererOptions) {
    super();
    this.addClass('ts-Transcript');
    added.connect(this.bind, this);
  }

  async renderModel(model: IRenderMime.IMimeModel): Promise<void> {
    const data = model.data[this.options.mimeType] as Record<string, unknown>;
    // a file of its own has no output metadata beside it
    const about = (model.metadata.tokenstream ??
      data.tokenstream ??
      {}) as Record<string, unknown>;
    const columns = Array.isArray(data.columns)
      ? (data.columns as Record<string, unknown>[]).slice(0, MOST_COLUMNS)
      : null;
    if (data.status !== 'live') {
      const before = this.bound.map(({ stream }) => stream);
      this.release();
      const began = performance.now();
      this.settle(data, about, columns);
      const work = performance.now() - began;
      // what was still to be drawn of the streams is drawn with their transcripts
      requestAnimationFrame(() =>
        before.forEach(stream => stream?.drew(stream.state.seq, work))
      );
      return;
    }
    const parts = columns ?? [data];
    const ids = parts.map(part => String((part?.model_id as string) ?? ''));
    if (ids.join() !== this.bound.map(({ id }) => id).join()) {
      this.release();
      this.bound = ids.map(id => ({ id, stream: null }));
    }
    if (columns) {
      this.columns().ensure(columns.length);
    }
    this.bind();
    this.bound.forEach(({ stream }, index) => {
      const saved = parts[index] ?? {};
      if (!stream && columns) {
        this.columns().show(index, saved);
      } else if (!stream) {
        this.stream().show(saved);
      }
    });
  }

  dispose(): void {
    added.disconnect(this.bind, this);
    this.release();
    this.single?.dispose();
    this.several?.dispose();
    super.dispose();
  }

  private settle(
    data: Record<string, unknown>,
    about: Record<string, unknown>,
    columns: Record<string, unknown>[] | null
  ): void {
    if (columns) {
      const each = Array.isArray(about.columns)
        ? (about.columns as object[])
        : [];
      this.columns().settle(
        columns.map((column, i) => ({ ...column, about: each[i] ?? {} }))
      );
    } else {
      this.stream().settle({ ...data, about });
    }
  }

  private stream(): StreamView {
    if (!this.single) {
      this.several?.dispose();
      this.several = null;
      this.single = new StreamView(this.trans, () => this.stop(0));
      this.node.replaceChildren(this.single.node);
    }
    return this.single;
  }

  private columns(): ColumnsView {
    if (!this.several) {
      this.single?.dispose();
      this.single = null;
      this.several = new ColumnsView(this.trans, index => this.stop(index));
      this.node.replaceChildren(this.several.node);
    }
    return this.several;
  }

  private get trans(): TranslationBundle | null {
    return this.options.translator?.load('tokenstream-magic') ?? null;
  }

  private stop(index: number): void {
    this.bound[index]?.stream?.stop();
  }

  private bind(): void {
    this.bound.forEach((each, index) => {
      const stream = streams.get(each.id);
      if (!stream || each.stream === stream) {
        return;
      }
      each.stream?.released(); // the widget model takes over from what was there before it
      each.stream = stream;
      const changed = (): void => {
        if (this.several) {
          this.several.update(index, stream.state);
        } else {
          this.stream().update(stream.state);
        }
      };
      stream.updated.connect(changed);
      const view = this.several?.views[index] ?? this.stream();
      view.drew = (seq, work) => stream.drew(seq, work);
      this.changes.push(() => {
        stream.updated.disconnect(changed);
        view.drew = null;
      });
      stream.shown();
      changed();
    });
  }

  private release(): void {
    this.changes.forEach(disconnect => disconnect());
    this.changes = [];
    const released = this.bound;
    this.bound = [];
    released.forEach(({ stream }) => stream?.released());
  }
}

const extension: IRenderMime.IExtension = {
  id: 'tokenstream-magic:mime',
  rendererFactory: {
    safe: true,
    mimeTypes: [MIME],
    createRenderer: options => new TranscriptRenderer(options)
  },
  rank: -20,
  dataType: 'json',
  fileTypes: [
    {
      name: 'tokenstream-transcript',
      displayName: 'Streamed transcript',
      extensions: ['.tokenstream.json'],
      mimeTypes: [MIME],
      fileFormat: 'json'
    }
  ],
  documentWidgetFactoryOptions: {
    name: 'Transcript',
    primaryFileType: 'tokenstream-transcript',
    fileTypes: ['tokenstream-transcript'],
    defaultFor: ['tokenstream-transcript']
  }
};

export default [extension, listing];
