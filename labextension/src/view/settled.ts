/** A settled transcript as the output holds it: what was said, and about it how it went. */

/** The parts of the bundle that the view reads; all of it may be missing in an old or foreign file. */
export interface ISettled {
  model?: string;
  outcome?: string;
  stop_cause?: string | null;
  finish_reason?: string | null;
  text?: string;
  reasoning?: string;
  refusal?: string;
  error?: { message?: string } | null;
  tool_calls?: { name?: string; arguments?: string }[];
  about: {
    timing?: Record<string, number | null>;
    usage?: Record<string, number | null>;
    diagnostics?: string[];
  };
}
