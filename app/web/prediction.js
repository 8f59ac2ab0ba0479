// What one answer of the server looks like.

import { make } from "./dom.js";
import { describeTypicality, isUnlike, listLabels, milliseconds, percent, plural } from "./words.js";

const STEPS = { decode: "decoding", queue: "in the queue", model: "in the model", total: "in total" };

/** The elements for a prediction of `POST /predict`. `timing` is the Server-Timing header, or null. */
export function showPrediction(prediction, timing) {
  return [
    make(
      "p",
      { className: "answer" },
      make("strong", { textContent: prediction.label }),
      ` ${percent(prediction.probability)}`,
    ),
    showBadges(prediction),
    showBars(prediction.top),
    prediction.prediction_set ? showSet(prediction.prediction_set) : null,
    timing ? make("p", { className: "timing", textContent: describeTiming(timing) }) : null,
  ].filter((element) => element !== null);
}

function showBadges({ typicality, decision }) {
  const badges = make("ul", { className: "badges", "aria-label": "Judgement" });
  if (decision) {
    const verdict = decision.accepted
      ? `Accepted at an error of at most ${percent(decision.max_error)}`
      : `Deferred: too uncertain for an error of at most ${percent(decision.max_error)}`;
    badges.append(make("li", { className: decision.accepted ? "good" : "doubtful", textContent: verdict }));
  }
  const kind = isUnlike(typicality) ? "bad" : "";
  badges.append(make("li", { className: kind, textContent: describeTypicality(typicality) }));
  return badges;
}

function showBars(top) {
  const bars = make("ol", { className: "bars", "aria-label": "Most probable labels" });
  for (const { label, probability } of top) {
    const fill = make("span", { className: "fill" });
    fill.style.width = `${100 * probability}%`; // set by script: the page's policy forbids it in HTML
    bars.append(
      make(
        "li",
        {},
        make("span", { className: "label", textContent: label }),
        make("span", { className: "bar", "aria-hidden": "true" }, fill),
        make("span", { className: "share", textContent: percent(probability) }),
      ),
    );
  }
  return bars;
}

function showSet({ coverage, labels }) {
  return make(
    "p",
    { className: "set" },
    `Prediction set at ${percent(coverage)}: `,
    make("strong", { textContent: listLabels(labels) }),
    ` (${plural(labels.length, "label")})`,
  );
}

/** The steps of a Server-Timing header (W3C) in words. */
export function describeTiming(header) {
  const steps = header.split(",").map((entry) => {
    const [name, ...parameters] = entry.trim().split(";");
    const duration = parameters.find((parameter) => parameter.trim().startsWith("dur="));
    return duration ? `${milliseconds(Number(duration.trim().slice(4)))} ${STEPS[name] ?? name}` : null;
  });
  return `Time: ${steps.filter((step) => step !== null).join(", ")}`;
}
