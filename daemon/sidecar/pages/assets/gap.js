// Which of M-Pesa's answers never came, as far as a cashier is to be told of it.

const week = 7 * 24 * 3600_000;

/**
 * The time in which answers are missing that nobody has looked after yet; undefined if there is none.
 * @param {{from?: string, to: string, found: string}[]|undefined} gaps as the sidecar's status lists them
 * @param {string} seen when the newest was found that somebody has looked after; "" if nobody has
 * @param {number} now
 * @returns {{from?: string, to: string}|undefined}
 */
export function missing(gaps, seen, now) {
  const at = (time) => Date.parse(time);
  const open = (gaps ?? []).filter(({ found }) => (!seen || at(found) > at(seen)) && now - at(found) < week);
  if (!open.length) return undefined;
  const earliest = (one, other) => (!one || !other ? undefined : at(other) < at(one) ? other : one);
  const latest = (one, other) => (at(other) > at(one) ? other : one);
  return { from: open.map(({ from }) => from).reduce(earliest), to: open.map(({ to }) => to).reduce(latest) };
}
