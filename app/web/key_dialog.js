// The dialog that asks for the API key.

import { find } from "./dom.js";

const VISIBLE_ASCII = /^[\x21-\x7e]+$/;

/** Shows the dialog. Returns a promise of the key, or of null where the person wants none. */
export function askForKey(reason) {
  const dialog = find("key-dialog");
  const input = find("key");
  const error = find("key-error");
  error.textContent = reason;
  input.value = "";
  find("change-key").hidden = false;
  dialog.showModal();
  return new Promise((resolve) => {
    let given = null;
    find("key-form").onsubmit = (event) => {
      event.preventDefault();
      const key = input.value.trim();
      if (VISIBLE_ASCII.test(key)) {
        given = key;
        dialog.close();
      } else {
        error.textContent = "The key must have visible ASCII characters alone, without spaces.";
      }
    };
    find("key-cancel").onclick = () => dialog.close();
    dialog.onclose = () => {
      input.value = "";
      resolve(given);
    };
  });
}
