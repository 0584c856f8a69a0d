// The API key, where a server asks for one.
import { apiKey } from "./api.js";

const byId = (id) => document.getElementById(id);
let next = () => {};

/** Asks for a key, and calls `then()` once one was given. */
export function askForKey(then) {
  const refused = apiKey.get() !== "";
  next = then;
  byId("key-form").hidden = false;
  byId("key-title").textContent = refused ? "The server refused this API key" : "This server asks for an API key";
  byId("key").focus();
}

export function watchKey() {
  byId("key-form").addEventListener("submit", (event) => {
    event.preventDefault();
    apiKey.set(byId("key").value.trim());
    byId("key").value = "";
    byId("key-form").hidden = true;
    byId("run").focus();
    next();
  });
}
