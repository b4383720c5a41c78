/** A stream as a value: what the kernel's messages add up to. No DOM, no Jupyter. */

/** The MIME type of a transcript, live or settled. */
export const MIME = 'application/vnd.tokenstream.transcript+json';

/** The outcomes of a run, once it has one. */
export const OUTCOMES = ['complete', 'stopped', 'truncated', 'failed'];

/** The channels of a timeline, by their number. */
export const CHANNELS = ['text', 'reasoning', 'refusal', 'tool'];

/** A tool call; `arguments` is JSON text that may not be whole yet. */
export interface ITool {
  name: string;
  arguments: string;
}

/**
 * How a text has grown, for views that take only what is new: to compare or to cut a string that is added to with every
 * frame, the browser would copy the whole of it. A text that does not go on from what was there has another growth.
 */
export class Growth {
  readonly pieces: string[] = [];
  length = 0;

  constructor(text: string = '') {
    this.add(text);
  }

  add(text: string): void {
    if (text) {
      this.pieces.push(text);
      this.length += text.length;
    }
  }

  /** What came after the first `count` pieces. */
  since(count: number): string {
    return this.pieces.slice(count).join('');
  }
}

/** What has arrived of one answer. */
export interface IChoice {
  index: number;
  text: string;
  reasoning: string;
  tools: ITool[];
  /** How `text` and `reasoning` grew. */
  grown: { text: Growth; reasoning: Growth };
}

/** A time in which text arrived without a pause that could be drawn: ms since the request. */
export interface ISpan {
  from: number;
  to: number;
  pieces: number;
  channel: string;
}

/** What the view draws. Times in ms, null when unknown. `text`, `reasoning` and `tools` are those of the first choice. */
export interface StreamState {
  text: string;
  reasoning: string;
  tools: ITool[];
  grown: IChoice['grown'];
  /** The further answers, in order. */
  choices: IChoice[];
  /** When text arrived. All but the last are final until `grain` changes. */
  spans: ISpan[];
  /** Pauses shorter than this, in ms, are not kept apart in `spans`. */
  grain: number;
  /** The first and the last moment of reasoning. */
  thought: [number, number] | null;
  seq: number;
  status: string;
  model: string;
  /** How the answer is drawn, as the cell asked for it. */
  format: string;
  streamId: string;
  /** What the run is a replay of, as its transcript will say it; null when it is none. */
  replayed: unknown;
  ttft: number | null;
  elapsed: number | null;
  chunks: number;
  /** When the request went out, on this page's clock. */
  since: number | null;
  /** tqdm's words while the model is fetched, and how far it is. */
  progress: { text: string; done: number; total: number } | null;
  /** How many ms the run waits for its first token, */
  timeout: number | null;
  /** and how many without progress it bears after that. */
  idle: number | null;
  /** When it last said what it is doing, on this page's clock: the wait for the first token is counted from there. */
  moved: number | null;
  /** What went wrong with one that is over, for a reader; empty when nothing did, or when its transcript will say it. */
  problem: string;
  /** When the next attempt comes, on this page's clock. */
  retryAt: number | null;
  bundle: IBundle | null;
}

const GRAIN_MS = 8;
const MOST_SPANS = 1200;
const MOST_CHOICES = 64;
const MOST_CALLS = 256;

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
    tools: [],
    grown: growing(),
    choices: [],
    spans: [],
    grain: GRAIN_MS,
    thought: null,
    seq: 0,
    status: 'starting',
    model: '',
    format: '',
    streamId: '',
    replayed: null,
    ttft: null,
    elapsed: null,
    chunks: 0,
    since: null,
    progress: null,
    timeout: null,
    idle: null,
    moved: null,
    problem: '',
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
      return isOver(state) ? 'settle' : 'nothing';
    case 'state':
      if (
        !isOver(state) &&
        (state.status !== 'stopping' ||
          OUTCOMES.includes(textOf(message.state)))
      ) {
        state.status = textOf(message.state) || state.status;
        state.streamId = textOf(message.stream_id) || state.streamId;
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
        state.moved = now;
        limits(state, message);
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
      if (OUTCOMES.includes(textOf(message.outcome))) {
        state.status = textOf(message.outcome);
      }
      state.bundle = (message.bundle as IBundle | undefined) ?? state.bundle;
      return 'settle';
    case 'bundle':
      state.bundle = (message.bundle as IBundle | null) ?? state.bundle;
      return state.bundle ? 'settle' : 'nothing';
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
    state.grown = growing(state.text, state.reasoning);
    state.tools = toolsOf(from.tool_calls);
    state.choices = choicesOf(from.choices);
    const spans = spansOf(from.spans);
    if (spans.length) {
      state.spans = spans;
    }
    state.seq = seq;
  }
  const status = textOf(from.status);
  const final = OUTCOMES.includes(status);
  if (status && !isOver(state) && (final || state.status !== 'stopping')) {
    state.status = status;
  }
  const meta = (from.meta ?? {}) as Message;
  state.model = textOf(meta.model) || state.model;
  state.format = textOf(meta.format) || state.format;
  state.streamId = textOf(meta.stream_id) || state.streamId;
  state.replayed = meta.replayed ?? state.replayed;
  limits(state, meta);
  const waited = numberOf(meta.waited);
  if (waited !== null && state.since === null) {
    state.since = now - waited;
  }
  const still = numberOf(meta.still);
  state.moved = still === null ? state.moved : now - still;
  const thought = Array.isArray(meta.thought) ? meta.thought : [];
  const [began, ended] = [numberOf(thought[0]), numberOf(thought[1])];
  if (began !== null && ended !== null) {
    state.thought = [began, ended];
  }
  figures(state, meta, now);
}

/** How long a run bears silence, and what went wrong with it. */
function limits(state: StreamState, from: Message): void {
  const [timeout, idle] = [numberOf(from.timeout), numberOf(from.idle)];
  state.timeout = timeout === null ? state.timeout : 1000 * timeout;
  state.idle = idle === null ? state.idle : 1000 * idle;
  state.problem = textOf(from.problem) || state.problem;
}

/** The answer with this index, which may be new; null when there are too many. */
function choiceOf(state: StreamState, index: number): IChoice | null {
  const at = state.choices.findIndex(choice => choice.index >= index);
  if (at >= 0 && state.choices[at].index === index) {
    return state.choices[at];
  }
  if (state.choices.length >= MOST_CHOICES) {
    return null;
  }
  const made: IChoice = {
    index,
    text: '',
    reasoning: '',
    tools: [],
    grown: growing()
  };
  state.choices.splice(at < 0 ? state.choices.length : at, 0, made);
  return made;
}

function append(state: StreamState, message: Message): void {
  const index = numberOf(message.choice) ?? 0;
  const target = index ? choiceOf(state, index) : state;
  const text = textOf(message.text);
  const channel = textOf(message.channel);
  if (target && channel === 'reasoning') {
    target.reasoning += text;
    target.grown.reasoning.add(text);
  } else if (target && (channel === 'text' || channel === 'refusal')) {
    target.text += text;
    target.grown.text.add(text);
  } else if (target && channel === 'tool') {
    const call = numberOf(message.call) ?? -1;
    if (call === target.tools.length && call < MOST_CALLS) {
      target.tools.push({ name: textOf(message.name), arguments: '' });
    }
    if (target.tools[call]) {
      target.tools[call].arguments += text;
    }
  }
  const last = numberOf(message.ms);
  const at = (
    Array.isArray(message.at) ? message.at : last === null ? [] : [last]
  ).map(numberOf);
  let moment = 0;
  for (const delta of at) {
    moment += delta ?? 0;
    mark(state, { from: moment, to: moment, pieces: 1, channel });
  }
  if (channel === 'reasoning' && !index && last !== null) {
    const first = state.thought?.[0] ?? at[0] ?? last;
    state.thought = [first, Math.max(last, state.thought?.[1] ?? 0)];
  }
}

/** Adds a span; when there are too many, neighbours are put together and told apart less finely from then on. */
function mark(state: StreamState, span: ISpan): void {
  if (!join(state, span)) {
    state.spans.push(span);
  }
  while (state.spans.length > MOST_SPANS) {
    state.grain *= 2;
    const before = state.spans;
    state.spans = [];
    for (const each of before) {
      if (!join(state, each)) {
        state.spans.push(each);
      }
    }
  }
}

function join(state: StreamState, span: ISpan): boolean {
  const last = state.spans[state.spans.length - 1];
  if (
    !last ||
    last.channel !== span.channel ||
    span.from - last.to >= state.grain
  ) {
    return false;
  }
  last.to = Math.max(last.to, span.to);
  last.pieces += span.pieces;
  return true;
}

/** Spans as a snapshot has them: from, to, pieces, channel of each in one list. */
function spansOf(flat: unknown): ISpan[] {
  const numbers = Array.isArray(flat) ? flat.map(numberOf) : [];
  const spans: ISpan[] = [];
  for (let i = 0; i + 3 < numbers.length; i += 4) {
    const [from, to, pieces, channel] = numbers.slice(i, i + 4);
    const name = CHANNELS[channel ?? -1];
    if (from !== null && to !== null && name) {
      spans.push({ from, to, pieces: pieces ?? 1, channel: name });
    }
  }
  return spans;
}

function toolsOf(calls: unknown): ITool[] {
  return (Array.isArray(calls) ? (calls as Message[]) : []).map(call => ({
    name: textOf(call?.name),
    arguments: textOf(call?.arguments)
  }));
}

function choicesOf(choices: unknown): IChoice[] {
  return (Array.isArray(choices) ? (choices as Message[]) : [])
    .slice(0, MOST_CHOICES)
    .map(choice => {
      const text = textOf(choice?.text);
      const reasoning = textOf(choice?.reasoning);
      return {
        index: numberOf(choice?.index) ?? 0,
        text,
        reasoning,
        tools: toolsOf(choice?.tool_calls),
        grown: growing(text, reasoning)
      };
    });
}

function growing(text: string = '', reasoning: string = ''): IChoice['grown'] {
  return { text: new Growth(text), reasoning: new Growth(reasoning) };
}

function figures(state: StreamState, from: Message, now: number): void {
  state.ttft = numberOf(from.ttft) ?? state.ttft;
  state.chunks = numberOf(from.n) ?? state.chunks;
  const elapsed = numberOf(from.ms);
  if (elapsed !== null) {
    state.elapsed = Math.max(elapsed, state.elapsed ?? 0);
  }
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
