// The heat map over one image: where the model looked for its label.

import { make } from "./dom.js";

export class HeatMap {
  /** `item` is the image's Item. */
  constructor(item) {
    this.item = item;
    this.label = null; // of the map that is loaded
    this.layer = make("img", { className: "heat", alt: "", hidden: true });
    item.frame.append(this.layer);
    this.button = make("button", { type: "button", textContent: "Heat map", "aria-pressed": "false" });
    this.button.setAttribute("aria-label", `Heat map of ${item.name}`);
    this.button.onclick = () => this.#toggle();
    this.opacity = make("input", { type: "range", min: 0, max: 1, step: 0.05, value: 0.8 });
    this.opacity.setAttribute("aria-label", `Opacity of the heat map of ${item.name}`);
    this.opacity.oninput = () => this.#fade();
    this.opacity.hidden = true;
    this.status = make("p", { className: "status", role: "status" });
    this.controls = make("div", { className: "explain", hidden: true }, this.button, this.opacity, this.status);
  }

  #controller = null;

  get isOn() {
    return this.button.getAttribute("aria-pressed") === "true";
  }

  /** Adapts to the item's newest prediction. A map of another label is out of date. */
  update() {
    const { prediction } = this.item;
    this.controls.hidden = prediction === null;
    if (prediction?.label === this.label) return;
    this.label = null;
    this.layer.hidden = true;
    if (this.isOn && prediction) this.#load();
  }

  #toggle() {
    const isOn = !this.isOn;
    this.button.setAttribute("aria-pressed", String(isOn));
    this.opacity.hidden = !isOn;
    this.status.textContent = "";
    if (!isOn) {
      this.#controller?.abort();
      this.layer.hidden = true;
    } else if (this.label === null) this.#load();
    else this.layer.hidden = false;
  }

  #fade() {
    this.layer.style.opacity = this.opacity.value;
  }

  async #load() {
    this.#controller?.abort();
    const { signal } = (this.#controller = new AbortController());
    const { context, file, mediaType } = this.item;
    const { label } = this.item.prediction;
    this.status.textContent = "The heat map is on its way.";
    try {
      const response = await context.limiter.run(() =>
        context.api.request("explain", {
          method: "POST",
          body: file,
          headers: { "Content-Type": mediaType, Accept: "image/png" },
          query: { label },
          signal,
          onWait: (seconds, reason) => {
            this.status.textContent = `${reason} Trying again in ${seconds} s.`;
          },
        }),
      );
      await this.#show(await response.blob());
      if (signal.aborted) return;
      this.label = label;
      this.layer.hidden = false;
      this.status.textContent = `Where it looked for ${label}.`;
    } catch (error) {
      if (signal.aborted) return;
      this.status.textContent = error.status === undefined ? "The heat map cannot be shown." : error.message;
      this.button.setAttribute("aria-pressed", "false");
      this.opacity.hidden = true;
      if (error.status === 404) context.onNoHeatMaps();
    }
  }

  async #show(blob) {
    const url = URL.createObjectURL(blob);
    try {
      this.layer.src = url;
      this.#fade();
      await this.layer.decode();
    } finally {
      URL.revokeObjectURL(url);
    }
  }

  close() {
    this.#controller?.abort();
    this.layer.removeAttribute("src");
  }
}
