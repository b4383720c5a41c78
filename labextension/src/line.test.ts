// @vitest-environment jsdom
import type { ISessionContext } from '@jupyterlab/apputils';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';

import { holdLine } from './line';

beforeEach(() => {
  vi.useFakeTimers();
});

afterEach(() => {
  expect(vi.getTimerCount()).toBe(0);
  vi.useRealTimers();
});

/** A session whose kernel cannot be reached until `connectionStatus` is set. */
function session() {
  const kernel = {
    connectionStatus: 'connecting',
    reconnect: vi.fn(() => Promise.reject(new Error('no line')))
  };
  const made = { isDisposed: false, session: { kernel } };
  return { kernel, made: made as unknown as ISessionContext };
}

it('a line is tried again until it is up, once for all who wait', () => {
  const { kernel, made } = session();
  holdLine(made, () => true);
  holdLine(made, () => true);
  vi.advanceTimersByTime(60_000);
  const tries = kernel.reconnect.mock.calls.length;
  expect(tries).toBeGreaterThanOrEqual(6);
  expect(tries).toBeLessThanOrEqual(10);
  kernel.connectionStatus = 'connected';
  vi.advanceTimersByTime(60_000);
  window.dispatchEvent(new Event('online'));
  expect(kernel.reconnect).toHaveBeenCalledTimes(tries);
});

it('a line is tried at once when the machine is on line again, and not when nobody waits', () => {
  const { kernel, made } = session();
  let isNeeded = true;
  holdLine(made, () => isNeeded);
  window.dispatchEvent(new Event('online'));
  expect(kernel.reconnect).toHaveBeenCalledTimes(1);
  isNeeded = false;
  vi.advanceTimersByTime(60_000);
  expect(kernel.reconnect).toHaveBeenCalledTimes(1);
});
