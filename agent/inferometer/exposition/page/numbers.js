/* Numbers as people read them. A number that is not there is a dash, never a zero. */

export const NONE = "–";
const GAP = "\u00a0"; // between a number and its unit no line is broken

export const isThere = (value) => value !== null && value !== undefined;

/* To so many significant digits, but never fewer digits than the whole number has. */
export function plain(value, digits = 3, fewest = 1) {
  if (!isThere(value)) return NONE;
  const whole = Math.abs(value) >= 10 ** (digits - 1) || value === 0;
  const precision = { minimumSignificantDigits: fewest, maximumSignificantDigits: digits };
  return new Intl.NumberFormat(undefined, whole ? { maximumFractionDigits: 0 } : precision).format(value);
}

/* The same, with zeros at its end, so that a number that changes keeps its width. */
export const steady = (value) => plain(value, 3, 3);

export function percent(value) {
  return isThere(value) ? `${steady(100 * value)}${GAP}%` : NONE;
}

/* From 1 on two decimals, below three digits: a price of 0.00213 is no 0.00. */
export function money(value, currency) {
  if (!isThere(value)) return NONE;
  const digits = Math.abs(value) >= 1 || value === 0
    ? { minimumFractionDigits: 2, maximumFractionDigits: 2 }
    : { minimumSignificantDigits: 3, maximumSignificantDigits: 3 };
  try {
    return new Intl.NumberFormat(undefined, { style: "currency", currency, currencyDisplay: "narrowSymbol", ...digits }).format(value);
  } catch {
    return `${new Intl.NumberFormat(undefined, digits).format(value)} ${currency}`;
  }
}

export function joules(value) {
  return isThere(value) ? `${steady(value)}${GAP}J` : NONE;
}

export function watts(value) {
  return isThere(value) ? `${plain(value)}${GAP}W` : NONE;
}

export function bytes(value) {
  return isThere(value) ? `${plain(value / 2 ** 30)}${GAP}GiB` : NONE;
}

export function range(lower, upper, format) {
  if (!isThere(lower) || !isThere(upper)) return NONE;
  const [from, to] = [format(lower), format(upper)];
  return from === to ? from : `${from.replace(/\s\S+$/, "")} – ${to}`;
}

export function duration(seconds) {
  if (seconds < 1) return `${plain(1000 * seconds)}${GAP}ms`;
  if (seconds < 120) return `${plain(seconds)}${GAP}s`;
  return `${Math.round(seconds / 60)}${GAP}min`;
}

export const clock = (unixSeconds) => new Date(unixSeconds * 1000).toLocaleTimeString();

export function seconds(window) {
  return Number.parseFloat(window) * ({ s: 1, m: 60, h: 3600, d: 86400 }[window.at(-1)] ?? 1);
}
