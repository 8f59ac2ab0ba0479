// Small helpers to build the page's elements.

/** An element with these properties and children. Texts are never read as HTML. */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

export function find(id) {
  return document.getElementById(id);
}

/** A function that calls `call` when it has not been called for that many milliseconds. */
export function debounce(call, milliseconds) {
  let timer;
  return () => {
    clearTimeout(timer);
    timer = setTimeout(call, milliseconds);
  };
}

/** Tells a screen reader; the text replaces the one before it. */
export function announce(text) {
  find("announcements").textContent = text;
}
