// @vitest-environment jsdom
import type { ISessionContext } from '@jupyterlab/apputils';
import type { Kernel } from '@jupyterlab/services';
import { Signal } from '@lumino/signaling';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';

import { type StreamState, initial } from './state';
import { CONTROL, StopRoads, follow } from './stop';

/** The second message may come only after this, and the interrupt only after that. */
const SOON_MS = 20;
const INTERRUPT_MS = 1000;

let roads: StopRoads;
let state: StreamState;
let tell: ReturnType<typeof vi.fn>;

beforeEach(() => {
  vi.useFakeTimers();
  state = { ...initial(), status: 'streaming', streamId: 'run-1' };
  tell = vi.fn();
});

afterEach(() => {
  roads.dispose();
  vi.useRealTimers();
});

/** A kernel; with `subshells` one that starts them at once. */
function kernelOf(subshells: boolean) {
  const iopub = {} as Kernel.IKernelConnection;
  const comm = {
    isDisposed: false,
    subshellStarted: subshells ? Promise.resolve() : new Promise(() => {}),
    open: vi.fn(),
    send: vi.fn()
  };
  const kernel = {
    handleComms: true,
    isDisposed: false,
    connectionStatus: 'connected',
    iopubMessage: new Signal<Kernel.IKernelConnection, unknown>(iopub),
    createComm: vi.fn(() => comm),
    interrupt: vi.fn(() => Promise.resolve())
  };
  return { kernel, comm };
}

/** The roads to Stop of a stream whose cell is running, on a kernel. */
async function roadsOn(made: ReturnType<typeof kernelOf>, wait: number) {
  const { kernel } = made;
  const session = { session: { kernel } } as unknown as ISessionContext;
  roads = new StopRoads(tell, () => state, session, 'model-1');
  await vi.advanceTimersByTimeAsync(wait);
  return made;
}

/** A subshell is open before Stop is pressed. */
const open = () => roadsOn(kernelOf(true), 0);

/** The kernel works on the cell that opened the comm of this stream. */
function working(kernel: ReturnType<typeof kernelOf>['kernel']): void {
  follow(kernel as unknown as Kernel.IKernelConnection);
  const message = (msg_type: string, content: object) =>
    kernel.iopubMessage.emit({
      header: { msg_type },
      parent_header: { msg_id: 'cell', msg_type: 'execute_request' },
      content
    });
  message('status', { execution_state: 'busy' });
  message('comm_open', { comm_id: 'model-1' });
}

it('where a subshell is open, Stop goes that way alone at first', async () => {
  const { kernel, comm } = await open();
  expect(kernel.createComm).toHaveBeenCalledExactlyOnceWith(CONTROL);
  roads.stop();
  vi.advanceTimersByTime(SOON_MS);
  const content = { op: 'stop', stream_id: 'run-1' };
  expect(comm.send.mock.calls).toEqual([[content]]);
  expect(tell).not.toHaveBeenCalled();
});

it('the second message comes, once, when nothing answered the first', async () => {
  const { comm } = await open();
  roads.stop();
  await vi.advanceTimersByTimeAsync(INTERRUPT_MS - 1);
  expect(tell.mock.calls).toEqual([[{ op: 'stop' }]]);
  expect(comm.send).toHaveBeenCalledTimes(1);
});

it('pressed twice, a second message is not put off nor sent twice', async () => {
  const { comm } = await open();
  roads.stop();
  vi.advanceTimersByTime(SOON_MS);
  roads.stop();
  vi.advanceTimersByTime(SOON_MS);
  expect(tell).toHaveBeenCalledTimes(1);
  await vi.advanceTimersByTimeAsync(INTERRUPT_MS / 2);
  expect(tell).toHaveBeenCalledTimes(1);
  expect(comm.send).toHaveBeenCalledTimes(2);
});

it('no second message and no interrupt come when the first was answered', async () => {
  const { kernel } = await open();
  working(kernel);
  roads.stop();
  vi.advanceTimersByTime(SOON_MS);
  roads.acknowledged();
  await vi.advanceTimersByTimeAsync(10 * INTERRUPT_MS);
  expect(tell).not.toHaveBeenCalled();
  expect(kernel.interrupt).not.toHaveBeenCalled();
});

it('none comes to a view that is gone', async () => {
  await open();
  roads.stop();
  roads.dispose();
  await vi.advanceTimersByTimeAsync(10 * INTERRUPT_MS);
  expect(tell).not.toHaveBeenCalled();
});

it('where no subshell is open, Stop goes over the stream’s own comm at once, and to the other when it opens', async () => {
  const { comm } = await roadsOn(kernelOf(false), 0);
  roads.stop();
  expect(tell.mock.calls).toEqual([[{ op: 'stop' }]]);
  expect(comm.send).not.toHaveBeenCalled();
  await vi.advanceTimersByTimeAsync(INTERRUPT_MS - 1);
  expect(comm.send.mock.calls).toEqual([[{ op: 'stop', stream_id: 'run-1' }]]);
  expect(tell).toHaveBeenCalledTimes(1);
});

it('when the subshell is gone, Stop does not wait for it', async () => {
  const { comm } = await open();
  comm.isDisposed = true;
  roads.stop();
  expect(tell).toHaveBeenCalledTimes(1);
  expect(comm.send).not.toHaveBeenCalled();
});

it('a kernel that answers nothing is interrupted, while it runs the very cell', async () => {
  const { kernel } = await open();
  working(kernel);
  roads.stop();
  vi.advanceTimersByTime(INTERRUPT_MS - 1);
  expect(kernel.interrupt).not.toHaveBeenCalled();
  vi.advanceTimersByTime(1);
  expect(kernel.interrupt).toHaveBeenCalledTimes(1);
});

it.each([
  ['works on nothing', () => undefined],
  [
    'cannot be reached',
    (kernel: { connectionStatus: string }) => {
      kernel.connectionStatus = 'connecting';
    }
  ],
  [
    'has ended the run',
    () => {
      state.status = 'stopped';
    }
  ]
])('a kernel that %s is not interrupted', async (words, happen) => {
  const { kernel } = await open();
  if (words !== 'works on nothing') {
    working(kernel);
  }
  roads.stop();
  happen(kernel);
  await vi.advanceTimersByTimeAsync(10 * INTERRUPT_MS);
  expect(kernel.interrupt).not.toHaveBeenCalled();
});
