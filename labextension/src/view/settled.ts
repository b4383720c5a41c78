/** A settled transcript as the output holds it: what was said, and about it how it went. */

/** A tool call; `arguments` is JSON text. */
export interface ICall {
  name?: string | null;
  arguments?: string;
}

/** One of several answers. */
export interface ISettledChoice {
  index?: number;
  text?: string;
  reasoning?: string;
  refusal?: string;
  tool_calls?: ICall[];
  finish_reason?: string | null;
}

/** A token as the server's logprobs tell it, with the likeliest ones in its place. */
export interface ILogprob {
  token?: string;
  logprob?: number;
  alternatives?: [string, number][];
}

/** The parts of the bundle that the view reads; all of it may be missing in an old or foreign file. */
export interface ISettled extends ISettledChoice {
  model?: string;
  /** How the answer is drawn. */
  format?: string;
  outcome?: string;
  stop_cause?: string | null;
  error?: { message?: string } | null;
  choices?: ISettledChoice[];
  about: {
    id?: string;
    created_at?: string;
    resolved_model?: string | null;
    endpoint?: string;
    protocol?: string;
    system_fingerprint?: string | null;
    request_id?: string | null;
    package_version?: string | null;
    timing?: Record<string, unknown>;
    usage?: Record<string, unknown>;
    diagnostics?: string[];
    /** Of a replay: what `readReplayed` reads. */
    replayed?: unknown;
    timeline?: unknown;
    logprobs?: ILogprob[][];
    /** Of a run that kept its wire: what wire-data.ts reads. */
    wire?: unknown;
  };
}

/** What a replay plays, and how. */
export interface IReplayed {
  of: string;
  /** Another delivery than it came in, as `buffered`. */
  as: string;
  /** Times as fast; null for as fast as it came. */
  speed: number | 'instant' | null;
  note: string;
}

/** What a transcript says of the one it is a replay of; null when it is none. */
export function readReplayed(replayed: unknown): IReplayed | null {
  const said = (replayed ?? {}) as Record<string, unknown>;
  const text = (value: unknown): string =>
    typeof value === 'string' ? value.slice(0, 200) : '';
  const { speed } = said;
  const isSpeed =
    speed === 'instant' ||
    (typeof speed === 'number' && speed > 0 && speed !== 1);
  return text(said.of)
    ? {
        of: text(said.of),
        as: text(said.as),
        speed: isSpeed ? speed : null,
        note: text(said.note)
      }
    : null;
}

const MOST_NOTES = 40;
const LONGEST_NOTE = 1000;

/** The notes about a stream, a line each. */
export function notesOf(transcript: ISettled): string[] {
  const { diagnostics } = transcript.about as { diagnostics?: unknown };
  return (Array.isArray(diagnostics) ? (diagnostics as unknown[]) : [])
    .filter((note): note is string => typeof note === 'string' && !!note.trim())
    .slice(0, MOST_NOTES)
    .map(note => note.slice(0, LONGEST_NOTE));
}

/** The answers of a transcript: the one, or all of them. */
export function answersOf(transcript: ISettled): ISettledChoice[] {
  const several = Array.isArray(transcript.choices) ? transcript.choices : [];
  return several.length > 1
    ? several.map((choice, index) => ({ index, ...choice }))
    : [{ ...transcript, index: 0 }];
}
