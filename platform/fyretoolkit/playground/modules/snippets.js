// One request as curl, Python and JavaScript. The key is never in them: they read FYRE_API_KEY.

import { SDK } from "./sdk.js";

export const LANGUAGES = [["curl", "curl"], ["python", "Python"], ["javascript", "JavaScript"]];

/**
 * `request`: {operation, path (filled in, with its query), values: {path, query, header, body}, file: name or null}.
 */
export function snippet(language, request) {
  return { curl, python, javascript }[language](request);
}

function curl({ operation, path, values, file }) {
  const parts = [`curl ${quoted(location.origin + path)}`];
  if (operation.method !== "GET" && !(operation.method === "POST" && (values.body || file))) parts.push(`-X ${operation.method}`);
  if (operation.needsKey) parts.push('-u "$FYRE_API_KEY:"');
  for (const [name, value] of Object.entries(values.header)) parts.push(`-H ${quoted(`${name}: ${value}`)}`);
  if (file) parts.push("-H 'Content-Type: application/octet-stream'", `--data-binary @${quoted(file)}`);
  else if (values.body) parts.push("-H 'Content-Type: application/json'", `-d ${quoted(JSON.stringify(values.body))}`);
  return parts.join(" \\\n  ");
}

function quoted(text) {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

function javascript({ operation, path, values, file }) {
  const headers = Object.entries(values.header).map(([name, value]) => `${JSON.stringify(name)}: ${JSON.stringify(value)}`);
  if (operation.needsKey) headers.unshift("Authorization: `Basic ${btoa(`${process.env.FYRE_API_KEY}:`)}`");
  if (file) headers.push('"Content-Type": "application/octet-stream"');
  else if (values.body) headers.push('"Content-Type": "application/json"');
  const lines = [];
  if (operation.method !== "GET") lines.push(`  method: ${JSON.stringify(operation.method)},`);
  if (headers.length) lines.push("  headers: {", ...headers.map((each) => `    ${each},`), "  },");
  if (file) lines.push(`  body: await readFile(${JSON.stringify(file)}),`);
  else if (values.body) lines.push(`  body: JSON.stringify(${indented(JSON.stringify(values.body, null, 2), 2)}),`);
  const url = JSON.stringify(location.origin + path);
  const opening = lines.length ? `await fetch(${url}, {\n${lines.join("\n")}\n})` : `await fetch(${url})`;
  const isDownload = operation.responses.some((each) => each.status === "206");
  const first = file ? 'import { readFile } from "node:fs/promises";\n\n' : "";
  return `${first}const response = ${opening};\nconsole.log(response.status, await response.${isDownload ? "text" : "json"}());`;
}

function indented(text, by) {
  return text.replaceAll("\n", `\n${" ".repeat(by)}`);
}

function python({ operation, path, values, file }) {
  const known = SDK[operation.id];
  if (!known) return `import httpx\n\nprint(httpx.get(${literal(location.origin + path)}).json())`;
  const given = { ...values.path, ...values.query, ...values.body, ...(file && { filename: file }) };
  const key = Object.entries(values.header).find(([name]) => name === "Idempotency-Key");
  if (key) given.idempotency_key ??= key[1];
  const { positional = [] } = known;
  const placed = positional.filter((name) => given[name] !== undefined).map((name) => literal(given[name]));
  const named = keywords(known, given).map(([name, value]) => `${name}=${value}`);
  const call = wrapped(`client.${known.call}`, [...placed, ...named]);
  const head = `from fyretoolkit import Client\n\nclient = Client(base_url=${literal(location.origin)})  # the key: FYRE_API_KEY`;
  if (known.call.endsWith(".list")) return `${head}\nfor each in ${call}:  # goes on into the next pages\n    print(each.id, each)`;
  return `${head}\nprint(${call}${known.then ? `.${known.then}` : ""})`;
}

function keywords({ positional = [], renamed = {}, flat = [], pairs = [] }, given) {
  const rest = Object.entries(given).filter(([name]) => !positional.includes(name));
  const spread = rest.flatMap(([name, value]) => (flat.includes(name) && value ? Object.entries(value) : [[name, value]]));
  return spread.map(([name, value]) => {
    const isPair = pairs.includes(name) && value !== null;
    return [renamed[name] ?? name, isPair ? `(${value.min_replicas}, ${value.max_replicas})` : literal(value)];
  });
}

function wrapped(name, parts) {
  const line = `${name}(${parts.join(", ")})`;
  return line.length <= 80 ? line : `${name}(\n${parts.map((each) => `    ${each},\n`).join("")})`;
}

/** A JSON value as Python writes it. */
function literal(value) {
  if (value === null || value === undefined) return "None";
  if (value === true) return "True";
  if (value === false) return "False";
  if (Array.isArray(value)) return `[${value.map(literal).join(", ")}]`;
  if (typeof value === "object") return `{${Object.entries(value).map(([key, each]) => `${JSON.stringify(key)}: ${literal(each)}`).join(", ")}}`;
  return JSON.stringify(value);
}
