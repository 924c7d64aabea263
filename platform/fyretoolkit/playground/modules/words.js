// How values are said to people.

/** 1234567 as 1,234,567. */
export function count(value) {
  return typeof value === "number" ? value.toLocaleString("en") : "–";
}

/** Milliseconds with three digits that mean something. */
export function ms(value) {
  if (value === null || value === undefined) return "–";
  if (value >= 1000) return `${(value / 1000).toPrecision(3)} s`;
  return `${value >= 100 ? Math.round(value) : Number(value.toPrecision(3))} ms`;
}

/** A share as a percentage. */
export function percent(value) {
  return `${Number((value * 100).toPrecision(3))}%`;
}

export function bytes(value) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let power = 0;
  while (value >= 1000 && power < units.length - 1) { value /= 1000; power += 1; }
  return `${Number(value.toPrecision(3))} ${units[power]}`;
}

/** Unix seconds as the time of day here. */
export function clock(seconds) {
  return new Date(seconds * 1000).toLocaleTimeString("en-GB");
}

export function plural(number, noun) {
  return `${count(number)} ${noun}${number === 1 ? "" : "s"}`;
}

/** "max_error_rate" as "Max error rate". */
export function title(name) {
  const words = name.replaceAll("_", " ");
  return words.charAt(0).toUpperCase() + words.slice(1);
}
