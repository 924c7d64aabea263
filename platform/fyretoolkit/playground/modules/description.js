// The OpenAPI document, read at run time and laid out for people. Everything that is said of a call comes from here.

const METHODS = ["get", "post", "put", "patch", "delete"];
const JSON_TYPE = "application/json";

/** {info, groups: [{name, description, operations}], byId, errors: [{code, status, message}], listOf(operation, name)} */
export function readDescription(document) {
  const resolve = resolver(document);
  const operations = Object.entries(document.paths).flatMap(([path, found]) =>
    METHODS.filter((method) => found[method]).map((method) => operationOf(document, resolve, path, method)));
  const groups = document.tags.map((tag) => ({
    ...tag,
    operations: operations.filter((each) => each.tag === tag.name).sort(inReadingOrder),
  })).filter((group) => group.operations.length);
  return {
    info: document.info,
    groups,
    byId: new Map(operations.map((each) => [each.id, each])),
    errors: catalogue(document, resolve),
    listOf: (operation, name) => listOf(document, operation, name),
  };
}

function resolver(document) {
  return (value) => {
    let found = value;
    while (found?.$ref) found = found.$ref.slice(2).split("/").reduce((at, part) => at[part], document);
    return found;
  };
}

function operationOf(document, resolve, path, method) {
  const said = document.paths[path][method];
  const parameters = (said.parameters ?? []).map(resolve).map((each) => ({ ...each, schema: plain(each.schema, resolve) }));
  return {
    id: said.operationId,
    method: method.toUpperCase(),
    path,
    tag: said.tags?.[0],
    summary: said.summary,
    description: said.description,
    needsKey: (said.security ?? document.security ?? []).length > 0,
    parameters: { path: of(parameters, "path"), query: of(parameters, "query"), header: of(parameters, "header") },
    body: bodyOf(said.requestBody, resolve),
    responses: Object.entries(said.responses).map(([status, each]) => responseOf(status, resolve(each), resolve)),
  };
}

function of(parameters, place) {
  return parameters.filter((each) => each.in === place);
}

function bodyOf(body, resolve) {
  if (!body) return null;
  const json = body.content[JSON_TYPE];
  if (!json) return { kind: "file", isRequired: body.required === true, description: body.description, fields: [] };
  const schema = resolve(json.schema);
  return {
    kind: "json",
    isRequired: body.required === true,
    description: schema.description,
    fields: fieldsOf(schema, resolve),
    example: json.example ?? schema.examples?.[0] ?? {},
    needsOne: (schema.minProperties ?? 0) > 0 || (body.required === true && !schema.required?.length),
  };
}

/** The fields of an object's schema: [{name, schema, isRequired, description}]. */
export function fieldsOf(schema, resolve) {
  const required = new Set(schema.required ?? []);
  return Object.entries(schema.properties ?? {}).map(([name, given]) => {
    const found = plain(given, resolve);
    return { name, schema: found, isRequired: required.has(name), description: found.description };
  });
}

/** A schema without references on its first level; `T | null` becomes T with `isNullable`. */
function plain(schema, resolve) {
  const { anyOf, ...around } = schema ?? {};
  const full = { ...resolve(schema), ...without(around, "$ref") };
  const choices = (full.anyOf ?? []).map(resolve);
  const others = choices.filter((each) => each.type !== "null");
  if (choices.length > others.length && others.length === 1) {
    const { anyOf: _, ...outer } = full;
    return withItems({ ...others[0], ...outer, isNullable: true }, resolve);
  }
  return withItems(full, resolve);
}

function withItems(schema, resolve) {
  const items = schema.items && resolve(schema.items);
  return { ...schema, ...(items && { items }) };
}

function without(object, name) {
  const { [name]: _, ...rest } = object;
  return rest;
}

function responseOf(status, said, resolve) {
  const [type, content] = Object.entries(said.content ?? {})[0] ?? [];
  const schema = content?.schema && resolve(content.schema);
  return {
    status,
    description: said.description,
    type,
    example: content?.example,
    codes: Object.keys(content?.examples ?? {}),
    fields: schema ? fieldsOf(schema, resolve) : [],
  };
}

/** Every error code that an answer of the document can have, by status. */
function catalogue(document, resolve) {
  const found = new Map();
  for (const operations of Object.values(document.paths)) {
    for (const method of METHODS.filter((each) => operations[each])) {
      for (const [status, said] of Object.entries(operations[method].responses)) {
        const examples = resolve(said).content?.[JSON_TYPE]?.examples ?? {};
        for (const [code, example] of Object.entries(examples)) {
          const message = example.value?.error?.message;
          if (message && status >= "400") found.set(code, { code, status: Number(status), message });
        }
      }
    }
  }
  return [...found.values()].sort((a, b) => a.status - b.status || a.code.localeCompare(b.code));
}

/** The path that lists what the path parameter `name` of an operation names, or null. */
function listOf(document, operation, name) {
  const own = before(operation.path, name);
  const others = Object.keys(document.paths).map((path) => before(path, name));
  return [own, ...others].find((path) => path && document.paths[path]?.get && isList(document, path)) ?? null;
}

function before(path, name) {
  const at = path.indexOf(`/{${name}}`);
  return at > 0 ? path.slice(0, at) : null;
}

function isList(document, path) {
  return (document.paths[path].get.parameters ?? []).some((each) => each.name === "starting_after");
}

/** Collections first, then what is done to one of them; of those, reading before changing. */
function inReadingOrder(a, b) {
  return rank(a) - rank(b) || a.path.localeCompare(b.path);
}

function rank({ method, path }) {
  const depth = path.split("/").length;
  return depth * 10 + ["POST", "GET", "PATCH", "DELETE"].indexOf(method);
}
