// One image: its picture, and what the server says of it.

import { ApiError, NETWORK } from "./api.js";
import { make } from "./dom.js";
import { HeatMap } from "./heat_map.js";
import { showPrediction } from "./prediction.js";
import { bytes } from "./words.js";

export class Item {
  /** `context` has api, limiter, settings, limits (of the model), onChange, onRetry, onRemove and onNoHeatMaps. */
  constructor(file, context) {
    this.file = file;
    this.state = "waiting"; // waiting, answered or failed
    this.error = null;
    this.prediction = null;
    this.version = null;
    this.isStale = true; // the settings have changed since the last request
    this.isNear = false; // the picture is on the screen or close to it
    this.context = context;
    this.name = file.name || "pasted image";
    this.#build();
  }

  #controller = null;

  /** The server reads a body as an image unless its type is that of a form or of JSON. */
  get mediaType() {
    return this.file.type.startsWith("image/") ? this.file.type : "application/octet-stream";
  }

  #build() {
    this.picture = make("img", { alt: `The image ${this.name}`, decoding: "async" });
    this.picture.onload = () => URL.revokeObjectURL(this.picture.src);
    this.picture.onerror = () => {
      URL.revokeObjectURL(this.picture.src);
      this.frame.classList.add("unseen");
    };
    this.unseen = make("span", { className: "no-preview", textContent: "The browser cannot show this file." });
    this.frame = make("div", { className: "frame" }, this.picture, this.unseen);
    this.heatMap = new HeatMap(this);
    this.status = make("p", { className: "state", textContent: "Waiting." });
    this.result = make("div", { className: "result" });
    this.again = make("button", { type: "button", textContent: "Try again", hidden: true });
    this.again.onclick = () => this.context.onRetry([this]);
    const remove = make("button", { type: "button", textContent: "Remove", "aria-label": `Remove ${this.name}` });
    remove.onclick = () => this.context.onRemove(this);
    const title = make("h3", { textContent: this.name });
    this.element = make(
      "li",
      { className: "item" },
      make("div", { className: "picture" }, this.frame, this.heatMap.controls),
      make(
        "div",
        { className: "facts" },
        make("div", { className: "title" }, title, this.again, remove),
        this.status,
        this.result,
      ),
    );
    this.element.setAttribute("aria-busy", "true");
  }

  /** Loads the picture while it is near the screen, and frees it when it is not. */
  setNear(isNear) {
    if (isNear === this.isNear) return;
    this.isNear = isNear;
    if (isNear) this.picture.src = URL.createObjectURL(this.file);
    else this.#freePicture();
  }

  #freePicture() {
    URL.revokeObjectURL(this.picture.src);
    this.picture.removeAttribute("src");
  }

  /** Asks the server. A request that is still on its way for older settings is given up. */
  async classify() {
    this.#controller?.abort();
    const controller = new AbortController();
    this.#controller = controller;
    this.isStale = false;
    this.again.hidden = true;
    this.element.setAttribute("aria-busy", "true");
    this.#enter("waiting", this.prediction ? "Asking again." : "Waiting.");
    try {
      await this.context.limiter.run(() => this.#request(controller.signal));
    } catch (error) {
      if (!controller.signal.aborted) this.#fail(error);
    }
  }

  async #request(signal) {
    signal.throwIfAborted();
    await this.#check();
    this.status.textContent = this.prediction ? "Asking again." : "On its way.";
    const response = await this.context.api.request("predict", {
      method: "POST",
      body: this.file,
      headers: { "Content-Type": this.mediaType },
      query: this.context.settings.query,
      signal,
      onWait: (seconds, reason) => {
        this.status.textContent = `${reason} Trying again in ${seconds} s.`;
      },
    });
    const answer = await response.json();
    signal.throwIfAborted();
    [this.prediction] = answer.predictions;
    this.version = answer.model.version;
    this.error = null;
    this.result.replaceChildren(...showPrediction(this.prediction, response.headers.get("Server-Timing")));
    this.heatMap.update();
    this.#settle("answered", "");
  }

  /** Throws ApiError for a file that the browser cannot read or that the server would refuse for its size. */
  async #check() {
    const { max_body_bytes: most } = this.context.limits() ?? {};
    if (this.file.size > most) {
      throw new ApiError(`The file has ${bytes(this.file.size)}, and the server takes at most ${bytes(most)}.`, 413);
    }
    try {
      await this.file.slice(0, 1).arrayBuffer();
    } catch {
      throw new ApiError("The browser cannot read the file. It may be a folder, or it has been moved.", 400);
    }
  }

  #fail(error) {
    this.error = error instanceof ApiError ? error : new ApiError("The answer cannot be read.", NETWORK);
    this.prediction = null;
    this.result.replaceChildren();
    this.heatMap.update();
    this.again.hidden = false;
    this.#settle("failed", this.error.message);
  }

  #settle(state, text) {
    this.element.setAttribute("aria-busy", "false");
    this.#enter(state, text);
  }

  #enter(state, text) {
    this.state = state;
    this.status.textContent = text;
    this.status.classList.toggle("error", state === "failed");
    this.context.onChange(this);
  }

  /** Gives up what is on its way, and frees the picture. */
  close() {
    this.#controller?.abort();
    this.heatMap.close();
    this.setNear(false);
    this.element.remove();
  }
}
