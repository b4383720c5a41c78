/**
 * Live again sooner after a reload. The page's connection to a kernel that runs a cell holds back what was to be said
 * before it was up, for 3 s (it waits for a `kernel_info_reply` that a busy shell does not give), and so the widget
 * manager comes by its models late. The outputs in the file name the models. So they are asked for their text over a
 * connection of their own, which has nothing to hold back, and shown until the real models are there.
 */
import type { NotebookPanel } from '@jupyterlab/notebook';
import { type Kernel, KernelMessage } from '@jupyterlab/services';
import { Signal } from '@lumino/signaling';

import { IStream, added, streams } from './registry';
import {
  IBundle,
  MIME,
  Message,
  StreamState,
  initial,
  isOver,
  take
} from './state';

/** A kernel that has not answered by then runs something else, or delivers no comms to a busy shell. */
const PATIENCE_MS = 15_000;
const ASK_AGAIN_MS = 1000;

/** What of a kernel's connection is used. */
export type Line = Pick<
  Kernel.IKernelConnection,
  | 'clientId'
  | 'username'
  | 'connectionStatus'
  | 'connectionStatusChanged'
  | 'statusChanged'
  | 'iopubMessage'
  | 'sendShellMessage'
  | 'dispose'
>;

/** A stream as its kernel tells it, without a widget model. */
class EarlyStream implements IStream {
  readonly state: StreamState = initial();
  readonly updated: Signal<IStream, void> = new Signal<IStream, void>(this);
  private askedAt = -Infinity;

  constructor(
    private id: string,
    private tell: (id: string, op: string) => void,
    private write: (id: string, bundle: IBundle) => void
  ) {}

  get isShown(): boolean {
    return streams.get(this.id) === this;
  }

  ask(): void {
    const now = performance.now();
    if (now - this.askedAt > ASK_AGAIN_MS) {
      this.askedAt = now;
      this.tell(this.id, 'sync');
    }
  }

  receive(message: Message): void {
    const need = take(this.state, message, performance.now());
    if (need === 'sync') {
      this.ask();
    } else if (need === 'settle' && this.state.bundle) {
      this.write(this.id, this.state.bundle);
    }
    if (this.isShown) {
      this.updated.emit();
    } else if (message.op === 'snapshot') {
      streams.set(this.id, this);
      added.emit(this.id);
    }
  }

  lose(): void {
    if (this.isShown) {
      streams.delete(this.id);
      if (!isOver(this.state)) {
        this.state.status = 'lost';
        this.updated.emit();
      }
    }
  }

  stop(): void {
    if (!isOver(this.state)) {
      this.state.status = 'stopping';
      this.updated.emit();
      this.tell(this.id, 'stop');
    }
  }

  drew(): void {
    // the model says that
  }

  shown(): void {
    // the model looks after the place of its output
  }

  released(): void {
    // and stops a stream that has none
  }
}

/** The streams with these ids, until their models come. Owns `line`. */
export class Early {
  private waiting = new Map<string, EarlyStream>();
  private timer: number;

  constructor(
    private line: Line,
    ids: readonly string[],
    write: (id: string, bundle: IBundle) => void
  ) {
    for (const id of ids) {
      const tell = (to: string, op: string): void => this.tell(to, op);
      const stream = new EarlyStream(id, tell, write);
      this.waiting.set(id, stream);
    }
    this.timer = window.setTimeout(() => {
      this.drop(stream => !stream.isShown);
    }, PATIENCE_MS);
    added.connect(this.taken, this);
    line.iopubMessage.connect(this.received, this);
    line.statusChanged.connect(this.lost, this);
    line.connectionStatusChanged.connect(this.ask, this);
    this.ask();
  }

  dispose(): void {
    this.drop(() => true);
  }

  private ask(): void {
    if (this.line.connectionStatus === 'connected') {
      this.waiting.forEach(stream => stream.ask());
    }
  }

  private tell(id: string, op: string): void {
    const { clientId, username } = this.line;
    // the kernel's own update of the output does not reach a page that was reloaded: the news brings the bundle with it
    const content: Record<string, string | boolean> =
      op === 'sync' ? { op, restored: true } : { op };
    this.line.sendShellMessage(
      KernelMessage.createMessage<KernelMessage.ICommMsgMsg<'shell'>>({
        msgType: 'comm_msg',
        channel: 'shell',
        session: clientId,
        username,
        content: { comm_id: id, data: { method: 'custom', content } }
      })
    );
  }

  private received(_: unknown, message: KernelMessage.IIOPubMessage): void {
    if (message.header.msg_type !== 'comm_msg') {
      return;
    }
    const content = message.content as KernelMessage.ICommMsgMsg['content'];
    const data = content.data as { method?: string; content?: Message };
    const said = data.method === 'custom' ? data.content : undefined;
    if (said?.op === 'frame') {
      const parts = (said.streams ?? {}) as Record<string, Message[]>;
      this.waiting.forEach((stream, id) =>
        parts[id]?.forEach(each => stream.receive(each))
      );
    } else if (said) {
      this.waiting.get(content.comm_id)?.receive(said);
    }
  }

  /** The model is there. */
  private taken(_: unknown, id: string): void {
    const stream = this.waiting.get(id);
    if (stream && !stream.isShown) {
      this.drop(each => each === stream);
    }
  }

  private lost(_: unknown, status: Kernel.Status): void {
    if (['restarting', 'autorestarting', 'dead'].includes(status)) {
      this.dispose();
    }
  }

  /** Those are watched no more; without any, the connection ends. */
  private drop(which: (stream: EarlyStream) => boolean): void {
    this.waiting.forEach((stream, id) => {
      if (which(stream)) {
        this.waiting.delete(id);
        stream.lose();
      }
    });
    if (this.waiting.size === 0) {
      window.clearTimeout(this.timer);
      Signal.clearData(this);
      this.line.dispose();
    }
  }
}

/** Begins it for a notebook that is opened with outputs of streams that were live when it was saved. */
export async function early(panel: NotebookPanel): Promise<void> {
  const { context, sessionContext } = panel;
  await context.ready;
  await sessionContext.ready;
  const kernel = sessionContext.session?.kernel;
  const found = panel.isDisposed ? [] : [...live(panel)];
  const ids = new Set(found.flatMap(output => output.ids));
  const unknown = [...ids].filter(id => !streams.has(id));
  if (kernel && unknown.length) {
    const meanwhile = new Early(kernel.clone(), unknown, (id, bundle) => {
      // of several pages that share a notebook one writes, and their models know which
      if (!panel.isDisposed && !context.model.collaborative) {
        settle(panel, id, bundle);
      }
    });
    panel.disposed.connect(() => meanwhile.dispose());
  }
}

function settle(panel: NotebookPanel, id: string, bundle: IBundle): void {
  for (const { outputs, index, ids } of [...live(panel)]) {
    if (ids.includes(id)) {
      outputs.set(index, { output_type: 'display_data', ...bundle });
    }
  }
}

/** The live outputs of a notebook, each with the models of its streams. */
function* live(
  panel: NotebookPanel
): Generator<{ outputs: IOutputs; index: number; ids: string[] }> {
  for (const cell of panel.context.model?.cells ?? []) {
    const { outputs } = cell as { outputs?: IOutputs };
    for (let index = 0; index < (outputs?.length ?? 0); index++) {
      const { data } = outputs!.get(index).toJSON() as { data?: Message };
      const shown = data?.[MIME] as Message | undefined;
      if (shown?.status === 'live') {
        const parts = Array.isArray(shown.columns) ? shown.columns : [shown];
        const ids = (parts as (Message | null)[])
          .map(part => part?.model_id)
          .filter((id): id is string => typeof id === 'string' && !!id);
        yield { outputs: outputs!, index, ids };
      }
    }
  }
}

interface IOutputs {
  readonly length: number;
  get(index: number): { toJSON(): unknown };
  set(index: number, value: unknown): void;
}
