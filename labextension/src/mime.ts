/**
 * The MIME renderer: the view of a transcript. Live while a model with its id is in this page, settled when the
 * output says so, and otherwise what had been saved. Model text only ever becomes text nodes.
 */
import type { IRenderMime } from '@jupyterlab/rendermime-interfaces';
import { Widget } from '@lumino/widgets';

import { IStream, added, streams } from './registry';
import { MIME } from './state';
import { StreamView } from './view/stream';

/** Draws one output. The same instance is kept while the output changes, so nothing flickers. */
export class TranscriptRenderer
  extends Widget
  implements IRenderMime.IRenderer
{
  private view: StreamView;
  private stream: IStream | null = null;
  private modelId = '';
  private settled = false;

  constructor(private options: IRenderMime.IRendererOptions) {
    super();
    const trans = options.translator?.load('tokenstream-magic');
    this.view = new StreamView(trans ?? null, () => this.stream?.stop());
    this.node.appendChild(this.view.node);
    this.addClass('ts-Transcript');
    added.connect(this.bind, this);
  }

  async renderModel(model: IRenderMime.IMimeModel): Promise<void> {
    const data = model.data[this.options.mimeType] as Record<string, unknown>;
    this.settled = data.status !== 'live';
    if (this.settled) {
      this.release();
      const about = (model.metadata.tokenstream ?? {}) as object;
      this.view.settle({ ...data, about });
      return;
    }
    this.modelId = String((data.model_id as string | undefined) ?? '');
    this.bind();
    if (!this.stream) {
      this.view.show(data);
    }
  }

  dispose(): void {
    added.disconnect(this.bind, this);
    this.release();
    this.view.dispose();
    super.dispose();
  }

  private bind(): void {
    const stream = streams.get(this.modelId);
    if (this.settled || this.stream || !stream) {
      return;
    }
    this.stream = stream;
    stream.changed.connect(this.changed, this);
    this.changed();
  }

  private changed(): void {
    if (!this.stream) {
      return;
    }
    this.view.update(this.stream.state);
  }

  private release(): void {
    this.stream?.changed.disconnect(this.changed, this);
    this.stream = null;
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

export default extension;
