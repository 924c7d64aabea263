// What was sent from this page, in its memory alone: answers may hold secrets, so nothing of it is stored.

import { statusPill } from "./answer.js";
import { button, h } from "./dom.js";
import { ms } from "./words.js";

const MOST = 50;
const entries = [];

/** Remember {request, answer, at}. */
export function keep(entry) {
  entries.unshift(entry);
  entries.length = Math.min(entries.length, MOST);
}

export function entry(number) {
  return entries[Number(number)];
}

export function historyView(show) {
  const rows = entries.map(({ request, answer, at }, number) => h("li", {}, h("a", {
    class: "history-row", href: `#/operation/${request.operation.id}/${number}`,
  },
    h("span", { class: "time" }, at.toLocaleTimeString("en-GB")),
    h("span", { class: `method ${request.operation.method.toLowerCase()}` }, request.operation.method),
    h("code", { class: "history-path" }, request.path),
    statusPill(answer),
    h("span", { class: "time" }, ms(answer.ms)))));
  return h("article", { class: "view" },
    h("h1", { tabindex: "-1" }, "History"),
    h("p", { class: "lead" }, `The last ${MOST} requests of this page. It ends with the page: nothing is stored.`),
    rows.length ? h("ol", { class: "history" }, rows) : h("p", { class: "empty" }, "Nothing was sent yet. Choose a call on the left and send it."),
    rows.length > 0 && button("Forget all", () => { entries.length = 0; show(); }, "quiet"));
}
