// The guide and every operation by its resource, with a filter.

import { fill, h } from "./dom.js";
import { GUIDE } from "./guide.js";

export function fillSidebar(element, { groups }) {
  const filter = h("input", { type: "search", placeholder: "Filter calls", "aria-label": "Filter calls", class: "filter", on: { input: narrow } });
  const none = h("p", { class: "hint", hidden: true }, "No call is like that.");
  const sections = [section("Guide", [...GUIDE.map(([name, title]) => link(`#/guide/${name}`, title)), link("/docs/guides", "All guides")]),
    ...groups.map((group) => section(group.name, group.operations.map((each) =>
      link(`#/operation/${each.id}`, each.summary, each))))];
  function narrow() {
    const wanted = filter.value.trim().toLowerCase();
    for (const each of sections) {
      const items = [...each.querySelectorAll("li")];
      items.forEach((item) => { item.hidden = !item.dataset.words.includes(wanted); });
      each.hidden = items.every((item) => item.hidden);
    }
    none.hidden = sections.some((each) => !each.hidden);
  }
  fill(element, filter, sections, none);
}

function section(name, links) {
  return h("section", {}, h("h2", {}, name), h("ul", {}, links));
}

function link(href, text, operation) {
  const words = `${text} ${operation?.method ?? ""} ${operation?.path ?? ""} ${operation?.id ?? ""}`.toLowerCase();
  return h("li", { "data-words": words }, h("a", { href }, h("span", {}, text),
    operation && h("span", { class: `method ${operation.method.toLowerCase()}` }, operation.method)));
}

/** Marks the link to what is shown. */
export function markCurrent(element, hash) {
  for (const each of element.querySelectorAll("a")) {
    const href = each.getAttribute("href");
    const isCurrent = hash === href || hash.startsWith(`${href}/`);
    if (isCurrent) each.setAttribute("aria-current", "page");
    else each.removeAttribute("aria-current");
  }
}
