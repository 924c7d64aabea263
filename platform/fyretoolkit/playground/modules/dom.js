// Elements, made of names and text. Text stays text: nothing here, or anywhere in this page, parses markup.

const SVG = "http://www.w3.org/2000/svg";

/** An element: `h("a", { href: "#/", on: { click } }, "text", child)`. Null and false are left out, lists laid flat. */
export function h(name, attributes, ...children) {
  return furnish(document.createElement(name), attributes, children);
}

/** The same in SVG. */
export function svg(name, attributes, ...children) {
  return furnish(document.createElementNS(SVG, name), attributes, children);
}

function furnish(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "on") Object.entries(value).forEach(([event, heard]) => element.addEventListener(event, heard));
    else if (name === "value" && "value" in element) element.value = value;
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...shown(children));
  return element;
}

function shown(children) {
  return children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false);
}

/** Put these in the place of what an element holds. */
export function fill(element, ...children) {
  element.replaceChildren(...shown(children));
  return element;
}

let names = 0;

/** An id that no other element has. */
export function freshId(prefix) {
  names += 1;
  return `${prefix}-${names}`;
}

/** A button. `kind`: primary, plain, quiet or danger. */
export function button(label, action, kind = "plain", attributes = {}) {
  return h("button", { type: "button", class: `button ${kind}`, on: { click: action }, ...attributes }, label);
}

/** Text with `code`, **strong** and paragraphs, as descriptions of the API have it. */
export function prose(text) {
  return (text ?? "").trim().split(/\n{2,}/).filter(Boolean).map((part) => h("p", {}, inline(part)));
}

/** The same without paragraphs. */
export function inline(text) {
  return (text ?? "").split(/(`[^`]+`|\*\*[^*]+\*\*)/).map((part) => {
    if (part.startsWith("`") && part.length > 2) return h("code", {}, part.slice(1, -1));
    if (part.startsWith("**") && part.length > 4) return h("strong", {}, part.slice(2, -2));
    return part;
  });
}

/** A table with a head. Cells are text or elements. */
export function table(heads, rows, { caption } = {}) {
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption ?? heads.join(", ") },
    h("table", {},
      caption && h("caption", { class: "hidden-label" }, caption),
      h("thead", {}, h("tr", {}, heads.map((head) => h("th", { scope: "col" }, head)))),
      h("tbody", {}, rows.map((row) => h("tr", {}, row.map((cell) => h("td", {}, cell)))))));
}

/** A labelled control: {element, control}. */
export function labelled(label, control, hint) {
  control.id ||= freshId("field");
  return h("div", { class: "labelled" },
    h("label", { for: control.id }, label), control, hint && h("p", { class: "hint" }, hint));
}

/** A select over [value, label] pairs. */
export function select(options, attributes = {}) {
  return h("select", attributes, options.map(([value, label]) => h("option", { value }, label ?? value)));
}
