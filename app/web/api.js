// Requests to the server: its address, the API key, retries, and errors in words.

const BASE = new URL("..", import.meta.url);
const LONGEST_REQUEST_MS = 180_000;
const LONGEST_WAIT_S = 60;
const MOST_RETRIES = 20;
const RETRIED = [429, 503];
export const NETWORK = 0; // the status of an ApiError where no answer came

/** An answer that is an error, or no answer. `message` is one sentence for a person. */
export class ApiError extends Error {
  constructor(message, status, code = "") {
    super(message);
    this.status = status;
    this.code = code;
  }
}

/** The API key. It is kept in memory alone, and asked for once, however many requests need it. */
export class Key {
  #value = null;
  #asking = null;
  #declined = false;
  #ask;

  /** `ask` gets a sentence that says why; it returns a promise of a key, or of null for none. */
  constructor(ask) {
    this.#ask = ask;
  }

  get value() {
    return this.#value;
  }

  /** From now on the next request that needs a key may ask for it again. */
  allowAsking() {
    this.#declined = false;
  }

  /** Asks for a key unless there is a newer one than `used`. Returns whether to try again. */
  async renew(used, reason) {
    if (this.#value !== used) return true;
    if (this.#declined) return false;
    this.#asking ??= this.#ask(reason).finally(() => {
      this.#asking = null;
    });
    const given = await this.#asking;
    if (given === null) this.#declined = true;
    else this.#value = given;
    return given !== null;
  }
}

export class Api {
  /** `key` is a Key; `onReached` is called with whether the server was reached, after each request. */
  constructor(key, onReached) {
    this.key = key;
    this.onReached = onReached;
  }

  async readJson(path, options) {
    return (await this.request(path, options)).json();
  }

  /**
   * The response, once it is a good one. A busy server is asked again after the time that it names: `onWait` gets the
   * remaining seconds and the reason. Throws ApiError, or the signal's reason.
   */
  async request(path, { method = "GET", headers = {}, body, query = {}, signal, onWait = () => {} } = {}) {
    const url = new URL(path, BASE);
    for (const [name, value] of Object.entries(query)) if (value !== "") url.searchParams.set(name, value);
    for (let retries = 0; ; retries++) {
      signal?.throwIfAborted();
      const used = this.key.value;
      const authorization = used === null ? {} : { Authorization: `Bearer ${used}` };
      const response = await this.#send(url, { method, headers: { ...headers, ...authorization }, body }, signal);
      if (response.ok) return response;
      const error = await readError(response);
      if (error.status === 401 && (await this.key.renew(used, error.message))) continue;
      const seconds = readRetryAfter(response);
      if (!RETRIED.includes(error.status) || seconds === null || retries === MOST_RETRIES) throw error;
      await countDown(seconds, signal, (left) => onWait(left, error.message));
    }
  }

  async #send(url, init, signal) {
    const late = AbortSignal.timeout(LONGEST_REQUEST_MS);
    try {
      const bounded = signal ? AbortSignal.any([signal, late]) : late;
      const response = await fetch(url, { ...init, signal: bounded, credentials: "same-origin", cache: "no-store" });
      this.onReached(true);
      return response;
    } catch (error) {
      signal?.throwIfAborted();
      if (late.aborted) throw new ApiError(`No answer came within ${LONGEST_REQUEST_MS / 60_000} minutes.`, NETWORK);
      this.onReached(false);
      throw new ApiError("The server cannot be reached.", NETWORK);
    }
  }
}

/** The error that a response tells: a problem document (RFC 9457), or the words of its status. */
async function readError(response) {
  const { status } = response;
  const problem = await response.json().catch(() => ({}));
  const plain = `The server answered ${status} ${response.statusText}`.trim() + ".";
  return new ApiError(typeof problem?.detail === "string" ? problem.detail : plain, status, problem?.code ?? "");
}

/** The seconds of Retry-After, or null. */
function readRetryAfter(response) {
  const seconds = Number.parseInt(response.headers.get("Retry-After") ?? "", 10);
  return Number.isNaN(seconds) ? null : Math.min(Math.max(seconds, 1), LONGEST_WAIT_S);
}

/** Resolves after that many seconds; `tell` gets those that are left, at once and each second. */
function countDown(seconds, signal, tell) {
  return new Promise((resolve, reject) => {
    let left = seconds;
    tell(left);
    const stop = () => {
      clearInterval(timer);
      reject(signal.reason);
    };
    const timer = setInterval(() => {
      left -= 1;
      if (left > 0) return tell(left);
      clearInterval(timer);
      signal?.removeEventListener("abort", stop);
      return resolve();
    }, 1000);
    signal?.addEventListener("abort", stop, { once: true });
  });
}
