/** A stream as a value: what the kernel's messages add up to. No DOM, no Jupyter. */

/** The MIME type of a transcript, live or settled. */
export const MIME = 'application/vnd.tokenstream.transcript+json';

/** The outcomes of a run, once it has one. */
export const OUTCOMES = ['complete', 'stopped', 'truncated', 'failed'];

/** What the view draws. Times in ms, null when unknown. */
export interface StreamState {
  text: string;
  reasoning: string;
  seq: number;
  status: string;
  model: string;
  streamId: string;
  ttft: number | null;
  elapsed: number | null;
  chunks: number;
  /** When the request went out, on this page's clock. */
  since: number | null;
  /** tqdm's words while the model is fetched, and how far it is. */
  progress: { text: string; done: number; total: number } | null;
  /** When the next attempt comes, on this page's clock. */
  retryAt: number | null;
  bundle: IBundle | null;
}

/** A settled output: data and metadata of INTERFACE §7. */
export interface IBundle {
  data: Record<string, unknown>;
  metadata: Record<string, unknown>;
}

/** A message from the kernel, as it comes. */
export type Message = Record<string, unknown>;

/** What a message asks of the page beside the new state. */
export type Need = 'nothing' | 'sync' | 'settle';

/** A stream of which nothing has arrived. */
export function initial(): StreamState {
  return {
    text: '',
    reasoning: '',
    seq: 0,
    status: 'starting',
    model: '',
    streamId: '',
    ttft: null,
    elapsed: null,
    chunks: 0,
    since: null,
    progress: null,
    retryAt: null,
    bundle: null
  };
}

/** Whether the run has ended. */
export function isOver(state: StreamState): boolean {
  return OUTCOMES.includes(state.status);
}

/**
 * Takes a message in, changing `state` in place, and says what it needs.
 *
 * A delta the state already has is dropped; one that does not follow on is not taken, and a snapshot is needed.
 * `now` is this page's clock in ms.
 */
export function take(state: StreamState, message: Message, now: number): Need {
  switch (message.op) {
    case 'append': {
      const seq = numberOf(message.seq) ?? 0;
      if (seq <= state.seq) {
        return 'nothing';
      }
      if (seq !== state.seq + 1) {
        return 'sync';
      }
      state.seq = seq;
      append(state, message);
      figures(state, message, now);
      if (state.status !== 'stopping' && !isOver(state)) {
        state.status = 'streaming';
      }
      return 'nothing';
    }
    case 'snapshot':
      restore(state, message, now);
      return state.bundle ? 'settle' : 'nothing';
    case 'state':
      if (!isOver(state) && state.status !== 'stopping') {
        state.status = textOf(message.state) || state.status;
        state.progress =
          message.state === 'fetching'
            ? {
                text: textOf(message.text),
                done: numberOf(message.done) ?? 0,
                total: numberOf(message.total) ?? 0
              }
            : null;
        if (message.state === 'waiting') {
          state.since = now;
        }
        state.retryAt =
          message.state === 'retrying'
            ? now + 1000 * (numberOf(message.seconds) ?? 0)
            : null;
      }
      return 'nothing';
    case 'stopping':
      if (!isOver(state)) {
        state.status = 'stopping';
      }
      return 'nothing';
    case 'settled':
      state.bundle = (message.bundle as IBundle) ?? null;
      state.status = outcomeOf(state.bundle) || state.status;
      return 'settle';
    default:
      return 'nothing';
  }
}

/** Takes the whole state from a snapshot or from the model's attributes. */
export function restore(state: StreamState, from: Message, now: number): void {
  const seq = numberOf(from.seq) ?? 0;
  if (seq >= state.seq) {
    state.text = textOf(from.text);
    state.reasoning = textOf(from.reasoning);
    state.seq = seq;
  }
  const status = textOf(from.status);
  const final = OUTCOMES.includes(status);
  if (status && !isOver(state) && (final || state.status !== 'stopping')) {
    state.status = status;
  }
  const meta = (from.meta ?? {}) as Message;
  state.model = textOf(meta.model) || state.model;
  state.streamId = textOf(meta.stream_id) || state.streamId;
  const waited = numberOf(meta.waited);
  if (waited !== null && state.since === null) {
    state.since = now - waited;
  }
  figures(state, meta, now);
  state.bundle = (from.bundle as IBundle | null | undefined) ?? state.bundle;
}

/** The outcome a bundle tells, if it tells one. */
function outcomeOf(bundle: IBundle | null): string {
  const said = bundle?.data?.[MIME] as { outcome?: unknown } | undefined;
  const outcome = textOf(said?.outcome);
  return OUTCOMES.includes(outcome) ? outcome : '';
}

function append(state: StreamState, message: Message): void {
  if (message.choice) {
    return; // further choices are in the settled transcript
  }
  if (message.channel === 'reasoning') {
    state.reasoning += textOf(message.text);
  } else if (message.channel === 'text' || message.channel === 'refusal') {
    state.text += textOf(message.text);
  }
}

function figures(state: StreamState, from: Message, now: number): void {
  state.ttft = numberOf(from.ttft) ?? state.ttft;
  state.chunks = numberOf(from.n) ?? state.chunks;
  state.elapsed = numberOf(from.ms) ?? state.elapsed;
  if (state.elapsed !== null && state.since === null) {
    state.since = now - state.elapsed;
  }
}

function numberOf(value: unknown): number | null {
  return typeof value === 'number' && Number.isFinite(value) ? value : null;
}

function textOf(value: unknown): string {
  return typeof value === 'string' ? value : '';
}
