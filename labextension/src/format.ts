/** Figures in words. Decimals are few and fixed, so that a figure that changes does not dance. */

/** A time in ms, with the unit a reader would choose. */
export function duration(ms: number): string {
  if (ms < 9.95) {
    return `${ms.toFixed(1)} ms`;
  }
  if (ms < 999.5) {
    return `${ms.toFixed(0)} ms`;
  }
  if (ms < 59_950) {
    return `${(ms / 1000).toFixed(ms < 9_995 ? 2 : 1)} s`;
  }
  const seconds = Math.max(60, Math.floor(ms / 1000));
  const minutes = Math.floor(seconds / 60);
  return `${minutes} min ${seconds % 60} s`;
}

/** A running time, in tenths of a second. */
export function running(ms: number): string {
  return ms < 60_000 ? `${(ms / 1000).toFixed(1)} s` : duration(ms);
}

/** A rate per second. */
export function rate(perSecond: number): string {
  return perSecond < 10 ? perSecond.toFixed(1) : perSecond.toFixed(0);
}
