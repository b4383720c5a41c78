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
    timeline?: unknown;
    logprobs?: ILogprob[][];
    /** Of a run that kept its wire: what wire-data.ts reads. */
    wire?: unknown;
  };
}

/** The answers of a transcript: the one, or all of them. */
export function answersOf(transcript: ISettled): ISettledChoice[] {
  const several = Array.isArray(transcript.choices) ? transcript.choices : [];
  return several.length > 1
    ? several.map((choice, index) => ({ index, ...choice }))
    : [{ ...transcript, index: 0 }];
}
