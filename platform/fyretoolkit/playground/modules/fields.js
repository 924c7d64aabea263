// One control for each field of a request: by its schema, with the account's own objects to choose from.

import { button, fill, freshId, h, inline, select } from "./dom.js";
import { session } from "./session.js";

const OTHER = "\u0000other";

/** What a person typed cannot be sent. */
export class FieldError extends Error {}

/**
 * {element, name, read, write, complain} of a field {name, schema, isRequired, description, example}. `read` answers
 * undefined where nothing is to be sent. `choices`: a promise of [value, label] pairs; `maker`: makes the first of them.
 */
export function field(described, { choices, maker, onInput }) {
  const id = freshId("field");
  const control = controlOf(described, { id, onInput });
  const trouble = h("p", { class: "trouble", id: `${id}-trouble`, hidden: true });
  const element = h("div", { class: "field" },
    h("div", { class: "field-head" },
      h("label", { for: id, class: "field-name" }, described.name),
      h("span", { class: "field-type" }, typeOf(described.schema)),
      described.isRequired ? h("span", { class: "badge" }, "required") : null),
    described.description && h("p", { class: "field-text", id: `${id}-text` }, inline(described.description)),
    control.element,
    trouble);
  control.focus().setAttribute("aria-describedby", `${described.description ? `${id}-text ` : ""}${id}-trouble`);
  choices?.then((found) => {
    if (found.length) control.offer?.(found);
    else if (maker && session.key) element.append(making(maker, control));
  });
  return {
    name: described.name,
    element,
    ready: choices ?? Promise.resolve(),
    read: control.read,
    write: control.write,
    complain(message) {
      fill(trouble, message ?? "");
      trouble.hidden = !message;
      control.focus().setAttribute("aria-invalid", String(Boolean(message)));
      if (message) control.focus().focus();
    },
  };
}

function making({ label, make }, control) {
  return button(label, async (event) => {
    event.target.disabled = true;
    const found = await make();
    event.target.disabled = false;
    if (!found.length) return;
    control.write("");
    control.offer(found);
    event.target.remove();
  }, "quiet small");
}

function controlOf(described, context) {
  const { schema } = described;
  if (schema.enum) return enumControl(described, context);
  if (schema.type === "boolean") return enumControl({ ...described, schema: { ...schema, enum: [true, false] } }, context);
  if (schema.type === "array" && schema.items?.enum) return manyControl(described, context);
  if (schema.type === "string" && schema.const === undefined) return textControl(described, context);
  if (schema.type === "integer" || schema.type === "number") return numberControl(described, context);
  return jsonControl(described, context);
}

/** Text, or one of the account's own objects once they are known. */
function textControl({ name, schema, isRequired, example }, { id, onInput }) {
  const input = h("input", {
    id, type: "text", autocomplete: "off", spellcheck: "false", placeholder: example ?? schema.default ?? "",
    required: isRequired, on: { input: () => { isTyped = true; onInput(); } },
  });
  let isTyped = false;
  const list = h("select", { hidden: true, on: { change: chosen } });
  const element = h("div", { class: "choice" }, input, list);
  function chosen() {
    const isOther = list.value === OTHER;
    input.hidden = !isOther;
    if (isOther) { input.value = ""; input.focus(); }
    onInput();
  }
  const isChosen = () => !list.hidden && list.value !== OTHER;
  return {
    element,
    focus: () => (isChosen() ? list : input),
    read: () => (isChosen() ? list.value : input.value) || undefined,
    write(value) {
      const isOffered = !list.hidden && [...list.options].some((each) => each.value === (value ?? ""));
      if (isOffered) list.value = value ?? "";
      else { input.value = value ?? ""; if (!list.hidden) list.value = OTHER; }
      input.hidden = isOffered;
    },
    offer(found) {
      const [typed, isExample] = [input.value, !isTyped];
      const none = isRequired ? [] : [["", "not sent"]];
      fill(list, [...none, ...found, [OTHER, "another value …"]].map(([value, label]) => h("option", { value }, label)));
      list.hidden = false;
      list.id = id;  // the label is the list's from now on
      list.setAttribute("aria-describedby", input.getAttribute("aria-describedby") ?? "");
      input.id = `${id}-other`;
      input.setAttribute("aria-label", `${name}, another value`);
      // What the account has is better than an example, and nothing is better than what a person typed.
      if (typed && !isExample) this.write(typed);
      else this.write(typed || isRequired ? found[0][0] : "");
      onInput();
    },
  };
}

function enumControl({ schema, isRequired }, { id, onInput }) {
  const unsent = isRequired ? [] : [["", schema.default === undefined || schema.default === null ? "not sent" : `${schema.default} (default)`]];
  const element = select([...unsent, ...schema.enum.map((each) => [String(each), String(each)])], { id, on: { change: onInput } });
  return {
    element,
    focus: () => element,
    read: () => (element.value === "" ? undefined : schema.enum.find((each) => String(each) === element.value)),
    write: (value) => { element.value = value === undefined ? "" : String(value); },
  };
}

function manyControl({ name, schema }, { id, onInput }) {
  const boxes = schema.items.enum.map((each, at) => h("input", {
    type: "checkbox", value: each, id: at === 0 ? id : null, checked: schema.default?.includes(each), on: { change: onInput },
  }));
  return {
    element: h("div", { class: "boxes", role: "group", "aria-label": name }, boxes.map((box) => h("label", {}, box, box.value))),
    focus: () => boxes[0],
    read: () => { const found = boxes.filter((box) => box.checked).map((box) => box.value); return found.length ? found : undefined; },
    write: (value) => boxes.forEach((box) => { box.checked = (value ?? []).includes(box.value); }),
  };
}

function numberControl({ schema, isRequired, example }, { id, onInput }) {
  const element = h("input", {
    id, type: "number", step: schema.type === "integer" ? "1" : "any", min: schema.minimum, max: schema.maximum,
    required: isRequired, placeholder: schema.default ?? example ?? "", on: { input: onInput },
  });
  return {
    element,
    focus: () => element,
    read() {
      if (element.validity.badInput) throw new FieldError("This is not a number.");
      return element.value === "" ? undefined : Number(element.value);
    },
    write: (value) => { element.value = value ?? ""; },
  };
}

function jsonControl({ isRequired, example, schema }, { id, onInput }) {
  const hint = example === undefined || example === null ? outline(schema) : JSON.stringify(example);
  const element = h("textarea", {
    id, class: "code", rows: isRequired ? 4 : 2, spellcheck: "false", placeholder: hint, required: isRequired, on: { input: onInput },
  });
  return {
    element,
    focus: () => element,
    read() {
      if (!element.value.trim()) return undefined;
      try {
        return JSON.parse(element.value);
      } catch (error) {
        throw new FieldError(`This is not JSON: ${error.message}`);
      }
    },
    write: (value) => { element.value = value === undefined ? "" : compact(value); },
  };
}

function outline({ properties }) {
  return properties ? `{${Object.keys(properties).map((each) => `"${each}": …`).join(", ")}}` : "JSON";
}

/** JSON on few lines: a list of texts an item a line, what is short on one. */
export function compact(value) {
  const short = JSON.stringify(value);
  if (short.length <= 60 || !Array.isArray(value)) return short.length <= 60 ? short : JSON.stringify(value, null, 2);
  return `[\n${value.map((each) => `  ${JSON.stringify(each)}`).join(",\n")}\n]`;
}

/** A schema's type in a few words. */
export function typeOf(schema) {
  const name = schema.enum ? schema.enum.join(" | ") : schema.const ?? schema.type ?? "any";
  const bounds = [schema.minimum ?? schema.minLength, schema.maximum ?? schema.maxLength];
  const [least, most] = bounds;
  const range = least !== undefined && most !== undefined ? ` ${least}–${most}` : "";
  const items = schema.type === "array" && schema.items?.type ? ` of ${schema.items.type}` : "";
  return `${name}${items}${schema.enum ? "" : range}${schema.isNullable ? " or null" : ""}`;
}
