// Code and JSON as people read them, with a button that copies.

import { button, fill, h } from "./dom.js";
import { notify } from "./notices.js";

const TOKEN = /("(?:\\.|[^"\\])*")(\s*:)?|\b(true|false|null)\b|(-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)/g;

/** JSON in colours, as text nodes. */
export function coloured(text) {
  const parts = [];
  let at = 0;
  for (const found of text.matchAll(TOKEN)) {
    const [whole, string, colon, word] = found;
    parts.push(text.slice(at, found.index));
    const kind = string ? (colon ? "name" : "string") : word ? "word" : "number";
    parts.push(h("span", { class: `t-${kind}` }, string ?? whole), colon ?? "");
    at = found.index + whole.length;
  }
  return [...parts, text.slice(at)];
}

/** A block of code with a button that copies it; `update(text)` puts other code in its place. */
export function codeBlock(text, { label, isJson = false } = {}) {
  const code = h("code", {});
  const pre = h("pre", { class: "code", tabindex: "0", role: "group", "aria-label": label ?? "Code" }, code);
  let current = text;
  const element = h("div", { class: "code-block" }, pre,
    button("Copy", () => copy(current), "quiet copy", { "aria-label": `Copy ${label ?? "code"}` }));
  element.update = (fresh) => {
    current = fresh;
    fill(code, isJson ? coloured(fresh) : fresh);
  };
  element.update(text);
  return element;
}

export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    notify("Copied");
  } catch {
    notify("The browser does not allow copying here: select the text and copy it.");
  }
}

/** Hand a blob to the person as a file. */
export function save(blob, name) {
  const url = URL.createObjectURL(blob);
  h("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
