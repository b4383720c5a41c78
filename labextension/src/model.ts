/**
 * StreamModel: the widget model as transport. It adds up the kernel's deltas, asks again after a gap, keeps the
 * saved notebook up to date and settles the output when the kernel cannot (JupyterLab forgets which output an
 * update belongs to when the page is reloaded).
 */
import { WidgetModel } from '@jupyter-widgets/base';
import type { NotebookPanel } from '@jupyterlab/notebook';
import { Signal } from '@lumino/signaling';

import { IDisplayed, displayedOf, isSame, putDisplayed } from './displayed';
import { Drawn, IDrawn } from './drawn';
import { holdLine } from './line';
import { IStream, added, streams } from './registry';
import {
  IBundle,
  Message,
  StreamState,
  MIME,
  initial,
  isOver,
  restore,
  take
} from './state';
import { StopRoads } from './stop';

/** How long the kernel's own update may take before the page asks for the bundle and settles the output itself. */
const SETTLE_AFTER_MS = 400;

/** How long a page waits for the snapshot it asked for. */
const ASK_AGAIN_MS = 1000;

/** How long the output of a stream may be gone before the stream is stopped: its cell was run again or cleared, */
const CLEARED_MS = 500;

/** or the cell itself is gone, perhaps to be pasted elsewhere. */
const DELETED_MS = 5000;

/** All models of this page: a frame comes over the comm of one stream and holds messages for others too. */
const models = new Set<StreamModel>();

type Output = { data?: Record<string, unknown>; [key: string]: unknown };
interface ICell {
  readonly id: string;
  readonly outputs?: IOutputs;
}
interface IOutputs {
  readonly length: number;
  add(value: unknown): unknown;
  get(index: number): { toJSON(): unknown };
  set(index: number, value: unknown): void;
}

/** The widget model of one run. */
export class StreamModel extends WidgetModel implements IStream {
  state!: StreamState;
  updated!: Signal<IStream, void>;
  private roads!: StopRoads;
  private drawing!: Drawn;
  private askedAt!: number | null;
  private settling!: number | null;
  private unseen!: number | null;
  /** The cell that has shown this stream in its outputs. */
  private home!: ICell | null;
  /** Whether the file holds, or is about to hold, the settled output. */
  private saved!: boolean;
  private isSaving!: boolean;
  /** How far behind the network this page was, and the same once the settled output says it. */
  private displayed!: IDisplayed | null;
  private put!: IDisplayed | null;

  defaults(): Record<string, unknown> {
    return {
      ...super.defaults(),
      _model_name: 'StreamModel',
      _model_module: 'tokenstream-magic',
      _model_module_version: '^0.1.0',
      text: '',
      reasoning: '',
      tool_calls: [],
      choices: [],
      spans: [],
      seq: 0,
      status: 'starting',
      meta: {}
    };
  }

  initialize(
    attributes: Record<string, unknown>,
    options: Parameters<WidgetModel['initialize']>[1]
  ): void {
    super.initialize(attributes, options);
    this.updated = new Signal<IStream, void>(this);
    this.state = initial();
    this.askedAt = null;
    this.settling = this.unseen = this.home = null;
    this.saved = this.isSaving = false;
    this.displayed = this.put = null;
    models.add(this);
    restore(this.state, attributes, performance.now());
    this.hear(attributes.meta);
    this.drawing = new Drawn(report => this.tell(report), this.state.seq);
    this.roads = new StopRoads(
      content => this.tell(content),
      () => this.state,
      this.context?.sessionContext ?? null,
      this.model_id
    );
    this.on('msg:custom', this.received, this);
    this.on('destroy', this.forget, this);
    this.on('comm_live_update', this.connection, this);
    this.context?.saveState.connect(this.saving, this);
    this.context?.sessionContext.connectionStatusChanged.connect(
      this.reconnected,
      this
    );
    this.context?.sessionContext.statusChanged.connect(this.kernelSays, this);
    streams.set(this.model_id, this);
    added.emit(this.model_id);
    const { seq, status } = this.state;
    const fresh = seq === 0 && ['starting', 'queued'].includes(status);
    const { page } = this.drawing;
    this.tell({
      op: 'hello',
      restored: !fresh,
      page,
      clock: performance.now()
    });
    if (!fresh) {
      this.findPlace();
    }
    if (isOver(this.state)) {
      this.settleSoon();
    }
  }

  /** Stops the run, by every road there is. */
  stop(): void {
    if (!isOver(this.state) && this.state.status !== 'lost') {
      // seen at once, whenever the kernel answers
      this.state.status = 'stopping';
      this.updated.emit();
      this.roads.stop();
    }
  }

  drew(seq: number, work: number): void {
    this.drawing.drew(seq, work, isOver(this.state));
    this.amend(); // the settled output may have come after its figures
  }

  shown(): void {
    this.drawing.skip();
    this.home = this.place() ?? this.home;
  }

  /** A stream that was in a cell and is in none any more is stopped: nobody could see or stop it. */
  released(): void {
    if (this.unseen !== null || !this.home || this.place()) {
      return;
    }
    const cells = [...(this.context?.model?.cells ?? [])] as ICell[];
    this.unseen = window.setTimeout(
      () => {
        this.unseen = null;
        if (!this.context || this.context.isDisposed || this.place()) {
          return;
        }
        this.stop();
        if (isOver(this.state)) {
          this.tell({ op: 'settled' });
        }
      },
      cells.includes(this.home) ? CLEARED_MS : DELETED_MS
    );
  }

  /** The cell whose outputs show this stream. */
  private place(): ICell | null {
    let found: ICell | null = null;
    this.eachOutput((_outputs, _index, _output, cell) => {
      found ??= cell;
    });
    return found;
  }

  /**
   * A page that was reloaded before the notebook was saved has the stream but no output that shows it: the kernel is
   * asked for one. A shared notebook needs none, it has the outputs of all.
   */
  private findPlace(): void {
    const context = this.context;
    void context?.ready.then(() => {
      if (!context.model.collaborative && !this.place()) {
        this.tell({ op: 'place' });
      }
    });
  }

  private putInPlace(message: Message): void {
    const cells = [...(this.context?.model?.cells ?? [])] as ICell[];
    const cell = cells.find(({ id }) => id === message.cell);
    if (cell?.outputs?.length === 0 && !this.place()) {
      const output = message.output as IBundle;
      cell.outputs.add({ output_type: 'display_data', ...output });
    }
  }

  /** Asks for everything, once for a gap however many deltas follow it; again when the answer was lost too. */
  private resync(): void {
    const now = performance.now();
    if (this.askedAt === null || now - this.askedAt > ASK_AGAIN_MS) {
      this.askedAt = now;
      this.tell({ op: 'sync' });
    }
  }

  private get context(): NotebookPanel['context'] | undefined {
    const manager = this.widget_manager as unknown as {
      context?: NotebookPanel['context'];
    };
    return manager.context;
  }

  private tell(
    content: Record<string, string | number | boolean> | IDrawn
  ): void {
    if (this.comm_live) {
      this.send(content);
    }
  }

  private received(message: Message): void {
    if (message.op === 'frame') {
      const streams = (message.streams ?? {}) as Record<string, Message[]>;
      for (const model of models) {
        if (model.widget_manager === this.widget_manager) {
          streams[model.model_id]?.forEach(each => model.receive(each));
        }
      }
    } else {
      this.receive(message);
    }
  }

  private receive(message: Message): void {
    const need = take(this.state, message, performance.now());
    if (message.op === 'displayed') {
      this.hear(message);
    } else if (message.op === 'snapshot') {
      this.hear(message.meta);
    }
    this.drawing.received(this.state.seq, performance.now());
    if (message.op === 'place') {
      this.putInPlace(message);
    }
    if (message.op === 'snapshot') {
      this.askedAt = null;
    }
    if (need === 'sync') {
      this.resync();
    } else if (need === 'settle') {
      this.settleSoon();
    }
    if (message.op === 'stopping') {
      this.roads.acknowledged();
    }
    this.amend();
    this.updated.emit();
  }

  private hear(said: unknown): void {
    const displayed = displayedOf((said as Message | null)?.displayed);
    if (displayed && !isSame(displayed, this.displayed)) {
      this.displayed = displayed;
    }
  }

  /**
   * Puts the figures that came after the settled output into it, once: what a reader makes of them then stays. Not while
   * the file is written, because what changes meanwhile counts as saved and is not; a notebook that was saved before has
   * something to be saved again, as with everything that comes from the kernel. Not in a notebook that several people
   * have open: to change an output there is to send all of it to all of them, and to bring it back where one just cleared it.
   */
  private amend(): void {
    const { displayed } = this;
    const { streamId } = this.state;
    const model = this.context?.model;
    if (
      displayed &&
      displayed !== this.put &&
      streamId &&
      isOver(this.state) &&
      !this.isSaving &&
      model &&
      !model.readOnly &&
      !model.collaborative &&
      putDisplayed(model.cells as Iterable<ICell>, streamId, displayed)
    ) {
      this.put = displayed;
    }
  }

  /**
   * The kernel's own update comes first and does the same. After a reload it does not: then the bundle comes with the
   * news, or the page asks for it, and writes it. When the settled output is in the file, the kernel may let go.
   */
  private settleSoon(): void {
    this.roads.acknowledged();
    const bundle = this.state.bundle;
    const patience = this.turn * SETTLE_AFTER_MS;
    if (bundle && !patience) {
      this.settle(bundle);
      this.letGo();
    } else if (this.settling === null) {
      this.settling = window.setTimeout(
        () => {
          this.settling = null;
          if (!this.isLive()) {
            this.letGo();
          } else if (this.state.bundle) {
            this.settle(this.state.bundle);
            this.letGo();
          } else {
            this.tell({ op: 'bundle' });
          }
        },
        Math.max(patience, SETTLE_AFTER_MS)
      );
    }
  }

  /**
   * Whose turn it is to write into a notebook that several people have open: two who replace the same output leave two
   * outputs. 0 where there is nobody else; otherwise a number that no two of them share, and gaps to see what the
   * others did.
   */
  private get turn(): number {
    const model = this.context?.model;
    const shared = model?.sharedModel as
      | { awareness?: { clientID: number; getStates(): Map<number, unknown> } }
      | undefined;
    if (!model?.collaborative || !shared?.awareness) {
      return 0;
    }
    const { awareness } = shared;
    const clients = [...awareness.getStates().keys()].sort((a, b) => a - b);
    return 1 + 3 * Math.max(clients.indexOf(awareness.clientID), 0);
  }

  /** Until the notebook is saved, only the kernel could show the answer to a page that is loaded anew. */
  private letGo(): void {
    this.drawing.tell();
    const model = this.context?.model;
    if (!model || model.collaborative || this.saved || !model.dirty) {
      this.tell({ op: 'settled' });
    }
  }

  private isLive(): boolean {
    let live = false;
    this.eachOutput((_outputs, _index, output) => {
      const shown = output.data?.[MIME] as Message | undefined;
      live ||= shown?.status === 'live';
    });
    return live;
  }

  private settle(bundle: IBundle): void {
    this.eachOutput((outputs, index, output) => {
      const shown = output.data?.[MIME] as Message | undefined;
      if (shown?.status === 'live') {
        outputs.set(index, { output_type: 'display_data', ...bundle });
      }
    });
    this.amend();
  }

  private saving(_: unknown, state: string): void {
    this.isSaving = false;
    this.amend();
    this.keep(state);
    this.isSaving = state === 'started';
  }

  /** A notebook saved in the middle of a stream holds what had arrived. */
  private keep(state: string): void {
    if (state.startsWith('completed') && this.saved) {
      this.tell({ op: 'settled' });
    }
    if (state !== 'started' || this.turn > 1) {
      return;
    }
    if (this.state.bundle) {
      this.settle(this.state.bundle);
    }
    this.saved = isOver(this.state) && !this.isLive();
    if (this.state.bundle) {
      return;
    }
    this.eachOutput((outputs, index, output) => {
      const shown = output.data?.[MIME] as Message | undefined;
      if (shown?.status !== 'live') {
        return;
      }
      const { text, reasoning, status, problem } = this.state;
      const columns = shown.columns as Message[] | undefined;
      const mine = columns?.find(each => each.model_id === this.model_id);
      // how a column ended is told nowhere else until the last of them has
      const ended =
        mine && isOver(this.state) ? { outcome: status, problem } : {};
      const before = mine ?? shown;
      if (
        before.text === text &&
        (!('outcome' in ended) || before.outcome === ended.outcome)
      ) {
        return;
      }
      const saved = columns
        ? columns.map(each =>
            each === mine ? { ...each, text, reasoning, ...ended } : each
          )
        : null;
      const data = {
        ...output.data,
        [MIME]: saved
          ? { ...shown, columns: saved }
          : { ...shown, text, reasoning },
        'text/plain': printable(saved ? saved.map(said).join('\n\n') : text)
      };
      outputs.set(index, { ...output, data });
    });
  }

  private eachOutput(
    visit: (
      outputs: IOutputs,
      index: number,
      output: Output,
      cell: ICell
    ) => void
  ): void {
    const cells = this.context?.model?.cells;
    for (const cell of (cells ?? []) as Iterable<ICell>) {
      const { outputs } = cell;
      for (let index = 0; index < (outputs?.length ?? 0); index++) {
        const output = outputs!.get(index).toJSON() as Output;
        const shown = output.data?.[MIME] as Message | undefined;
        const columns = (shown?.columns ?? [shown]) as (Message | undefined)[];
        if (columns.some(each => each?.model_id === this.model_id)) {
          visit(outputs!, index, output, cell);
        }
      }
    }
  }

  /** The kernel is gone, or came back: what has arrived stays either way. */
  private connection(): void {
    if (this.comm_live) {
      this.resync();
    } else {
      this.lose();
    }
  }

  /** The websocket is back: what was said meanwhile may have been dropped, its end included. */
  private reconnected(_: unknown, status: string): void {
    if (status === 'connected' && !isOver(this.state)) {
      this.askedAt = null;
      this.resync();
    } else if (status !== 'connected' && this.context && this.isRunning) {
      const { widget_manager } = this;
      holdLine(this.context.sessionContext, () =>
        [...models].some(
          each => each.widget_manager === widget_manager && each.isRunning
        )
      );
    }
  }

  private get isRunning(): boolean {
    return !isOver(this.state) && this.state.status !== 'lost';
  }

  private kernelSays(_: unknown, status: string): void {
    if (['restarting', 'autorestarting', 'dead'].includes(status)) {
      this.lose();
    }
  }

  private lose(): void {
    if (!isOver(this.state) && !this.state.bundle) {
      this.state.status = 'lost';
      this.updated.emit();
    }
  }

  private forget(): void {
    for (const timer of [this.settling, this.unseen]) {
      window.clearTimeout(timer ?? undefined);
    }
    this.context?.saveState.disconnect(this.saving, this);
    this.context?.sessionContext.connectionStatusChanged.disconnect(
      this.reconnected,
      this
    );
    this.context?.sessionContext.statusChanged.disconnect(
      this.kernelSays,
      this
    );
    this.roads.dispose();
    this.drawing.dispose();
    models.delete(this);
    streams.delete(this.model_id);
    if (!isOver(this.state) && !this.state.bundle) {
      this.state.status = 'lost';
    }
    this.updated.emit();
    Signal.clearData(this);
  }
}

/** A column in plain text; of one that went wrong, why. */
function said({ model, text, outcome, problem }: Message): string {
  const why =
    typeof problem === 'string' && problem
      ? `[${String(outcome)}: ${problem}]`
      : '';
  return [`[${String(model)}]`, String(text), why].filter(Boolean).join('\n');
}

function printable(text: string): string {
  // eslint-disable-next-line no-control-regex
  return text.replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/g, '');
}
