// Numbers in words and with their units.

const UNUSUAL = 0.05;
const UNLIKE = 0.01;
const PERCENT = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const NUMBER = new Intl.NumberFormat("en", { maximumSignificantDigits: 4 });

/** A share between 0 and 1. Only 0 and 1 themselves are shown as 0 % and 100 %. */
export function percent(share) {
  if (share > 0 && share < 0.0005) return "<0.1 %";
  if (share < 1 && share > 0.9995) return ">99.9 %";
  return `${PERCENT.format(100 * share)} %`;
}

export function number(value) {
  return typeof value === "number" ? NUMBER.format(value) : String(value);
}

export function milliseconds(value) {
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} ms`;
}

export function bytes(count) {
  if (count < 1024) return `${count} bytes`;
  const mebibytes = count / 2 ** 20;
  return mebibytes < 0.1 ? `${Math.ceil(count / 1024)} KiB` : `${PERCENT.format(mebibytes)} MiB`;
}

/** What a typicality says: the share of the calibration's images that fit the model as badly or worse. */
export function describeTypicality(typicality) {
  if (typicality === null) return "Typicality unknown: the checkpoint has no calibration";
  const shown = `typicality ${typicality.toFixed(typicality < 0.1 ? 3 : 2)}`;
  if (typicality < UNLIKE) return `Unlike anything it was trained on (${shown})`;
  if (typicality < UNUSUAL) return `Unusual for it (${shown})`;
  return `Typical (${shown})`;
}

export function isUnlike(typicality) {
  return typicality !== null && typicality < UNLIKE;
}

export function plural(count, singular) {
  return `${count} ${singular}${count === 1 ? "" : "s"}`;
}

/** The labels, or the first of them and how many more there are. */
export function listLabels(labels, longest = 20) {
  const rest = labels.length - longest;
  return rest > 0 ? `${labels.slice(0, longest).join(", ")} and ${rest} more` : labels.join(", ");
}
