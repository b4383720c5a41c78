/**
 * Stop, by three roads, because which one is open depends on the kernel and on what it is doing:
 * the stream's own comm (an awaited cell, every kernel that delivers comms to one), a comm the kernel never
 * publishes on (a blocking cell on kernels with subshells), and, when neither was acknowledged, the kernel's
 * interrupt, but only while the very cell that started this stream is running.
 */
import type { ISessionContext } from '@jupyterlab/apputils';
import type { Kernel, KernelMessage } from '@jupyterlab/services';

import type { StreamState } from './state';
import { isOver } from './state';

/** The target the kernel registers and never publishes on. */
export const CONTROL = 'tokenstream.control';

const SUBSHELL_WAIT_MS = 250;
const SECOND_AFTER_MS = 25;
const INTERRUPT_AFTER_MS = 1000;

/** Which request each kernel is working on, and which request opened each widget's comm. */
class Activity {
  running: string | null = null;
  readonly openedBy = new Map<string, string>();

  constructor(kernel: Kernel.IKernelConnection) {
    kernel.iopubMessage.connect(this.follow, this);
  }

  private follow(_: unknown, message: KernelMessage.IIOPubMessage): void {
    const parent = message.parent_header as Partial<KernelMessage.IHeader>;
    const type = message.header.msg_type;
    if (type === 'comm_open' && parent.msg_id) {
      const content = message.content as { comm_id: string };
      this.openedBy.set(content.comm_id, parent.msg_id);
    } else if (type === 'status' && parent.msg_type === 'execute_request') {
      const state = (message.content as { execution_state: string })
        .execution_state;
      if (state === 'busy') {
        this.running = parent.msg_id ?? null;
      } else if (state === 'idle' && this.running === parent.msg_id) {
        this.running = null;
      }
    }
  }
}

const activities = new WeakMap<Kernel.IKernelConnection, Activity>();

/** Follows a kernel from now on; called as soon as a notebook has one. */
export function follow(kernel: Kernel.IKernelConnection): Activity {
  let activity = activities.get(kernel);
  if (!activity) {
    activity = new Activity(kernel);
    activities.set(kernel, activity);
  }
  return activity;
}

/** The roads to Stop of one stream. */
export class StopRoads {
  private timer: number | null = null;
  private second: number | null = null;

  constructor(
    private tell: (content: Record<string, string>) => void,
    private state: () => StreamState,
    private session: ISessionContext | null,
    private modelId: string
  ) {
    const kernel = this.session?.session?.kernel;
    if (kernel && !isOver(state())) {
      // a subshell takes its time to start: not when Stop is pressed
      void control(kernel);
    }
  }

  /** Asks by all roads. May be called again. */
  stop(): void {
    const kernel = this.session?.session?.kernel;
    const comm = kernel && opened.get(kernel);
    const content = { op: 'stop', stream_id: this.state().streamId };
    // by the road that is open whatever the kernel does; a second message at once would only be in the first one's way there
    const isOpen = !!comm && !comm.isDisposed && kernel.handleComms;
    if (isOpen) {
      comm.send(content);
      this.second ??= window.setTimeout(() => {
        this.second = null;
        this.tell({ op: 'stop' });
      }, SECOND_AFTER_MS);
    } else {
      this.tell({ op: 'stop' });
    }
    if (!kernel) {
      return;
    }
    if (!isOpen) {
      void control(kernel).then(later => later?.send(content));
    }
    if (this.timer === null) {
      this.timer = window.setTimeout(
        () => this.interrupt(kernel),
        INTERRUPT_AFTER_MS
      );
    }
  }

  /** The kernel answered: nothing further is needed. */
  acknowledged(): void {
    if (this.timer !== null) {
      window.clearTimeout(this.timer);
      this.timer = null;
    }
    if (this.second !== null) {
      window.clearTimeout(this.second);
      this.second = null;
    }
  }

  dispose(): void {
    this.acknowledged();
  }

  private interrupt(kernel: Kernel.IKernelConnection): void {
    this.timer = null;
    const activity = follow(kernel);
    const mine = activity.openedBy.get(this.modelId);
    // while the connection is cut, nobody here knows what the kernel is doing
    const known = kernel.connectionStatus === 'connected';
    if (known && !isOver(this.state()) && mine && activity.running === mine) {
      void kernel.interrupt();
    }
  }
}

/** One comm a kernel, kept: closing it would take its subshell away from under a message that is on its way. */
const opening = new WeakMap<
  Kernel.IKernelConnection,
  Promise<Kernel.IComm | null>
>();
const opened = new WeakMap<Kernel.IKernelConnection, Kernel.IComm>();

/** The comm of a kernel that Stop is sent on, opened when there is none; null when there can be none. */
async function control(
  kernel: Kernel.IKernelConnection
): Promise<Kernel.IComm | null> {
  if (!kernel.handleComms || kernel.isDisposed) {
    return null;
  }
  let comm = await opening.get(kernel);
  if (!comm || comm.isDisposed) {
    const fresh = open(kernel);
    opening.set(kernel, fresh);
    comm = await fresh;
  }
  return comm.isDisposed ? null : comm;
}

async function open(kernel: Kernel.IKernelConnection): Promise<Kernel.IComm> {
  const comm = kernel.createComm(CONTROL) as Kernel.IComm & {
    subshellStarted?: Promise<void>;
  };
  // on a kernel without subshells that promise never settles
  await Promise.race([
    comm.subshellStarted?.catch(() => undefined),
    new Promise(resolve => window.setTimeout(resolve, SUBSHELL_WAIT_MS))
  ]);
  comm.open();
  opened.set(kernel, comm);
  return comm;
}
