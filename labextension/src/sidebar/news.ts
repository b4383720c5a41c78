/** When a run of this page began or ended: the moments at which a list of transcripts has news. */
import { added, IStream, streams } from '../registry';
import { isOver } from '../state';

/** A run is in the database a moment after its page knows of it. */
const WRITTEN_MS = 500;

/** Calls back after every beginning and every end; returns how to be left alone. */
export function followRuns(changed: () => void): () => void {
  let timer: ReturnType<typeof setTimeout> | null = null;
  const soon = () => {
    timer ??= setTimeout(() => {
      timer = null;
      changed();
    }, WRITTEN_MS);
  };
  const followed = new Map<IStream, () => void>();
  const follow = (id: string) => {
    const stream = streams.get(id);
    if (!stream || followed.has(stream)) {
      return;
    }
    const look = () => {
      if (isOver(stream.state)) {
        stream.updated.disconnect(look);
        followed.delete(stream);
        soon();
      }
    };
    followed.set(stream, look);
    stream.updated.connect(look);
    soon();
    look();
  };
  const began = (_: object, id: string) => follow(id);
  added.connect(began);
  [...streams.keys()].forEach(follow);
  return () => {
    added.disconnect(began);
    followed.forEach((look, stream) => stream.updated.disconnect(look));
    if (timer !== null) {
      clearTimeout(timer);
    }
  };
}
