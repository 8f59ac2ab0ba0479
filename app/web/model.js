// The model's card, from `GET /model`.

import { make } from "./dom.js";
import { bytes, number, percent, plural } from "./words.js";

const SHOWN_LABELS = 1000; // of a long list; a browser slows down with many more elements

/** The elements of the card. */
export function showModel(model) {
  return [
    showFacts({
      Network: model.name,
      Version: model.version,
      Made: describeTime(model.created_at),
      Runs: `on ${model.device} in ${model.dtype}, in batches of at most ${model.max_batch}`,
      Calibration: describeCalibration(model),
    }),
    showLabels(model.labels),
    ...showSection("Metrics", showMetrics(model.metrics)),
    ...showSection("Preprocessing", showFacts(model.preprocessing)),
    ...showSection("Limits", showFacts(mapValues(model.limits, showLimit))),
  ];
}

function showSection(title, content) {
  return [make("h3", { textContent: title }), content];
}

function showFacts(facts) {
  const list = make("dl");
  for (const [name, value] of Object.entries(facts)) {
    list.append(make("dt", { textContent: name.replaceAll("_", " ") }), make("dd", { textContent: showValue(value) }));
  }
  return list;
}

function showValue(value) {
  if (Array.isArray(value)) return value.map(showValue).join(", ");
  return value === null ? "none" : number(value);
}

/** An ISO 8601 time, in UTC and to the minute; a text that is none is shown as it is. */
function describeTime(text) {
  const time = new Date(text);
  return Number.isNaN(time.valueOf()) ? text : `${time.toISOString().slice(0, 16).replace("T", " ")} UTC`;
}

function describeCalibration({ calibration, temperature }) {
  if (calibration === null) return "none: neither prediction sets nor typicality";
  return `${plural(calibration.images, "image")}, ${calibration.kind} scores, temperature ${number(temperature)}`;
}

function showLabels(labels) {
  const list = make("ol", { start: 0, "aria-label": "Labels by index" });
  const details = make("details", {}, make("summary", { textContent: plural(labels.length, "label") }), list);
  details.addEventListener(
    "toggle",
    () => {
      list.append(...labels.slice(0, SHOWN_LABELS).map((label) => make("li", { textContent: label })));
      if (labels.length > SHOWN_LABELS) details.append(make("p", { textContent: `The first ${SHOWN_LABELS} are shown.` }));
    },
    { once: true },
  );
  return details;
}

/** For each split a list of its numbers, of which only the accuracy is shown at first. */
function showMetrics(metrics) {
  const splits = Object.entries(metrics).map(([split, values]) => {
    const accuracy = values.accuracy === undefined ? "" : `: accuracy ${percent(values.accuracy)}`;
    return make("details", {}, make("summary", { textContent: split + accuracy }), showFacts(values));
  });
  return make("div", {}, ...(splits.length > 0 ? splits : [make("p", { textContent: "The checkpoint has none." })]));
}

function showLimit(value, name) {
  if (name.includes("bytes") || name.includes("memory")) return bytes(value);
  if (name.includes("timeout") || name.includes("delay")) return `${number(value)} s`;
  return value.toLocaleString("en");
}

function mapValues(object, change) {
  return Object.fromEntries(Object.entries(object).map(([name, value]) => [name, change(value, name)]));
}
