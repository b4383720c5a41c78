/**
 * Where the two halves of the extension meet: models register here, renderers look them up.
 * Both are in one bundle, so they share this module.
 */
import { Signal } from '@lumino/signaling';

import type { StreamState } from './state';

/** A stream as its view sees it. */
export interface IStream {
  /** What has arrived so far. */
  readonly state: StreamState;
  /** Emitted whenever `state` changed. Not `changed`: a widget model has that name for something else. */
  readonly updated: Signal<IStream, void>;
  /** Ask for the stream to be stopped, by every road there is. */
  stop(): void;
  /** In an animation frame: a view has put all of it up to message `seq` into the page, which took `work` ms. */
  drew(seq: number, work: number): void;
  /** A view draws it from now on. */
  shown(): void;
  /** A view that drew it is gone, or draws something else. */
  released(): void;
}

/** The live streams of this page by the id of their widget model. */
export const streams = new Map<string, IStream>();

/** Emitted with a model's id when it was added to `streams`. */
export const added = new Signal<object, string>({});
