// At most so many tasks at once; the others wait in order.

export class Limiter {
  #free;
  #waiting = [];

  constructor(limit) {
    this.#free = limit;
  }

  /** The result of `task`, a function that returns a promise. */
  async run(task) {
    if (this.#free > 0) this.#free -= 1;
    else await new Promise((resolve) => this.#waiting.push(resolve));
    try {
      return await task();
    } finally {
      const next = this.#waiting.shift();
      if (next) next();
      else this.#free += 1;
    }
  }
}
