// What the person asks of the server: the coverage of prediction sets, and the largest error of accepted answers.

import { debounce, find } from "./dom.js";
import { percent } from "./words.js";

const QUIET_MS = 250; // after the last movement of the slider

export class Settings {
  #coverage = find("coverage");
  #maxError = find("max-error");

  /** `onChange` is called when the values have changed. */
  constructor(onChange) {
    const change = debounce(onChange, QUIET_MS);
    this.#coverage.oninput = () => {
      this.#showCoverage();
      change();
    };
    this.#maxError.onchange = onChange;
    this.#coverage.disabled = this.#maxError.disabled = true; // until the model is known
    this.#showCoverage();
  }

  /** The query parameters of `POST /predict`; empty ones are not sent. */
  get query() {
    return {
      coverage: this.#coverage.disabled ? "" : this.#coverage.value,
      max_error: this.#maxError.disabled ? "" : this.#maxError.value,
    };
  }

  /** Offers what the model of `GET /model` can do; `decides` says whether the server knows `max_error`. */
  offer(model, decides) {
    const { calibration } = model;
    this.#coverage.disabled = calibration === null;
    if (calibration === null) find("coverage-note").textContent = "The checkpoint has no calibration for it.";
    const reason = !decides
      ? "This server does not offer it."
      : calibration === null || calibration.decisions === null
        ? "The checkpoint has no calibration for it."
        : "";
    this.#maxError.disabled = reason !== "";
    find("max-error-note").textContent = reason || describeDecisions(calibration.decisions);
  }

  /** The server has refused `max_error`. */
  forbidDecisions(reason) {
    this.#maxError.disabled = true;
    find("max-error-note").textContent = reason;
  }

  #showCoverage() {
    const shown = percent(this.#coverage.valueAsNumber);
    find("coverage-value").textContent = shown;
    this.#coverage.setAttribute("aria-valuetext", shown);
  }
}

function describeDecisions(decisions) {
  const promise = "Of the accepted answers at most this share is wrong";
  return decisions ? `${promise}, with a confidence of ${percent(decisions.confidence)}.` : `${promise}.`;
}
