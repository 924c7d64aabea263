// Short words in a corner, read out by screen readers, gone by themselves.

import { h } from "./dom.js";

const SHOWN_MS = 4000;

export function notify(text) {
  const notice = h("p", { class: "notice" }, text);
  document.getElementById("notices").append(notice);
  setTimeout(() => notice.remove(), SHOWN_MS);
}
