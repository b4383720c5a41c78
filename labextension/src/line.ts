/**
 * The line to a kernel that streams. JupyterLab tries a lost one seven times, each after a random time of up to twice
 * the one before: after a cut of 30 s it has given up in one case of twelve, and else it waits up to a minute more. As
 * long as somebody waits for text, it is made to try again.
 */
import type { ISessionContext } from '@jupyterlab/apputils';

/** Longer than the line takes to come up where it can. */
const EVERY_MS = 8000;

const held = new Set<ISessionContext>();

/** Tries to connect again until the line is up or `isNeeded` no more. One at a time for a session, whoever asks. */
export function holdLine(
  session: ISessionContext,
  isNeeded: () => boolean
): void {
  if (held.has(session)) {
    return;
  }
  const again = (): void => {
    const kernel = session.isDisposed ? null : session.session?.kernel;
    if (!kernel || kernel.connectionStatus === 'connected' || !isNeeded()) {
      window.clearInterval(timer);
      window.removeEventListener('online', again);
      held.delete(session);
      return;
    }
    kernel.reconnect().catch(() => undefined); // it is tried again
  };
  const timer = window.setInterval(again, EVERY_MS);
  window.addEventListener('online', again);
  held.add(session);
}
