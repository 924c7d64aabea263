// The fields of one operation, and the request that they make.

import { choicesOf, fieldChoices, inputsFor, makerOf } from "./account.js";
import { button, fill, freshId, h } from "./dom.js";
import { FieldError, field } from "./fields.js";

/**
 * {element, read, fillIn, complain, ready}. `read` answers {values: {path, query, header, body}, path, content, file}
 * and throws FieldError, having shown it at its field.
 */
export function requestForm(operation, description, { onInput }) {
  const places = ["path", "query", "header"];
  const parameters = Object.fromEntries(places.map((place) => [place, operation.parameters[place].map((each) =>
    field({ name: each.name, schema: each.schema, isRequired: each.required, description: each.description, example: each.example },
      { onInput: changed, choices: place === "path" ? choicesOf(operation, each.name, description.listOf(operation, each.name)) : null }))]));
  const body = bodyOf(operation, { onInput: changed });
  let lastModel = null;

  let suggested = null;
  function changed() {
    suggested = suggestInputs();
    onInput();
  }
  /** A prediction's inputs follow its model, until a person changes them. */
  async function suggestInputs() {
    if (operation.id !== "predict") return;
    const model = parameters.path[0].read();
    if (model === lastModel) return;
    lastModel = model;
    const inputs = await inputsFor(model);
    if (inputs && model === lastModel) { body.suggest("inputs", inputs); onInput(); }
  }

  const groups = [
    ["Path", parameters.path], ["Query", parameters.query],
  ].filter(([, fields]) => fields.length);
  return {
    element: h("form", { class: "request", novalidate: true, on: { submit: (event) => event.preventDefault() } },
      groups.map(([name, fields]) => h("fieldset", {}, h("legend", {}, `${name} parameters`), fields.map((each) => each.element))),
      body?.element,
      parameters.header.length > 0 && h("details", { class: "more" },
        h("summary", {}, "Headers"), parameters.header.map((each) => each.element))),
    ready: Promise.all([...parameters.path.map((each) => each.ready), body?.ready].filter(Boolean)).then(() => suggested),
    read() {
      const values = Object.fromEntries(places.map((place) => [place, readAll(parameters[place])]));
      const content = body ? body.read() : {};
      if (content.json !== undefined) values.body = content.json;
      if (content.filename) values.query.filename ??= content.filename;
      return { operation, values, path: pathOf(operation, values), file: content.filename ?? null, content };
    },
    /** Shows what the platform said of single fields at them. */
    complain(said) {
      const all = [...places.flatMap((place) => parameters[place]), ...(body?.fields ?? [])];
      all.forEach((each) => each.complain(null));
      for (const { path, message } of [...said].reverse()) {
        const name = String(path).split(/[.[]/)[0];
        all.find((each) => each.name === name)?.complain(message);
      }
    },
    fillIn(values) {
      for (const place of places) parameters[place].forEach((each) => each.write(values[place]?.[each.name]));
      lastModel = parameters.path[0]?.read() ?? null;
      body?.fillIn(values.body);
    },
  };
}

function readAll(fields) {
  const read = fields.map((each) => [each.name, readOne(each)]);
  return Object.fromEntries(read.filter(([, value]) => value !== undefined));
}

function readOne(each) {
  try {
    const value = each.read();
    each.complain(null);
    return value;
  } catch (error) {
    if (error instanceof FieldError) each.complain(error.message);
    throw error;
  }
}

function pathOf(operation, { path, query }) {
  const filled = operation.path.replace(/\{(\w+)\}/g, (_, name) => encodeURIComponent(path[name] ?? `{${name}}`));
  const search = new URLSearchParams(query).toString();
  return search ? `${filled}?${search}` : filled;
}

function bodyOf(operation, { onInput }) {
  if (!operation.body) return null;
  return operation.body.kind === "file" ? fileBody(operation, onInput) : jsonBody(operation, onInput);
}

/** Bytes: a file of this machine, or rows typed here. */
function fileBody(operation, onInput) {
  const rows = h("textarea", { class: "code", rows: 4, id: freshId("rows"), spellcheck: "false", on: { input: onInput } });
  rows.value = '{"id":"a","text":"a joy from start to end"}\n{"id":"b","text":"dull"}\n';
  const chosen = h("input", { type: "file", id: freshId("file"), on: { change: onInput } });
  const element = h("fieldset", {}, h("legend", {}, "Body"),
    h("p", { class: "field-text" }, operation.body.description),
    h("div", { class: "field" }, h("label", { for: chosen.id, class: "field-name" }, "A file"), chosen),
    h("div", { class: "field" }, h("label", { for: rows.id, class: "field-name" }, "or text, sent as rows.jsonl"), rows));
  return {
    element, fields: [], ready: null, fillIn() {}, suggest() {},
    read() {
      const file = chosen.files[0];
      return file ? { bytes: file, filename: file.name } : { bytes: new Blob([rows.value]), filename: "rows.jsonl" };
    },
  };
}

/** A JSON object: a control a field, or all of it as text. */
function jsonBody(operation, onInput) {
  const { body } = operation;
  const fields = body.fields.map((each) => field({ ...each, example: body.example[each.name] },
    { onInput, choices: each.schema.type === "string" ? fieldChoices(operation, each.name) : null, maker: makerOf(each.name) }));
  const isMain = (each, at) => body.fields[at].isRequired || (body.needsOne && body.example[each.name] !== undefined);
  fields.forEach((each, at) => {
    if (isMain(each, at) && body.example[each.name] !== undefined) each.write(body.example[each.name]);
  });
  const text = h("textarea", { class: "code", rows: 10, spellcheck: "false", "aria-label": "Body as JSON", on: { input: onInput } });
  const trouble = h("p", { class: "trouble", hidden: true, role: "alert" });
  const main = fields.filter(isMain);
  const more = fields.filter((each) => !main.includes(each));
  const form = h("div", {}, main.map((each) => each.element),
    more.length > 0 && h("details", { class: "more" }, h("summary", {}, `${more.length} optional field${more.length === 1 ? "" : "s"}`), more.map((each) => each.element)));
  const asText = h("div", { hidden: true }, text, trouble);
  const switching = button("Edit as JSON", flip, "quiet small");
  let isText = false;

  function flip() {
    let value;
    try {
      value = read().json ?? {};
    } catch (error) {
      if (error instanceof FieldError) return;
      throw error;
    }
    isText = !isText;
    switching.textContent = isText ? "Edit as fields" : "Edit as JSON";
    form.hidden = isText;
    asText.hidden = !isText;
    fillIn(value);
    onInput();
  }
  function fillIn(value = {}) {
    text.value = JSON.stringify(value, null, 2);
    if (!isText) fields.forEach((each) => each.write(value[each.name]));
  }
  function read() {
    if (!isText) return sent(readAll(fields), body);
    try {
      const json = text.value.trim() ? JSON.parse(text.value) : undefined;
      trouble.hidden = true;
      return { json };
    } catch (error) {
      fill(trouble, `This is not JSON: ${error.message}`);
      trouble.hidden = false;
      throw new FieldError(error.message);
    }
  }
  return {
    fields, read, fillIn,
    ready: Promise.all(fields.map((each) => each.ready)),
    element: h("fieldset", {}, h("legend", {}, "Body"), fields.length > 0 && switching,
      fields.length === 0 && h("p", { class: "field-text" }, "No fields: an empty object, or nothing."), form, asText),
    suggest(name, value) {
      if (isText) text.value = JSON.stringify({ ...parsedOr(text.value), [name]: value }, null, 2);
      else fields.find((each) => each.name === name)?.write(value);
    },
  };
}

function sent(values, body) {
  const isEmpty = Object.keys(values).length === 0;
  return { json: isEmpty && !body.isRequired ? undefined : values };
}

function parsedOr(text) {
  try {
    return JSON.parse(text);
  } catch {
    return {};
  }
}

