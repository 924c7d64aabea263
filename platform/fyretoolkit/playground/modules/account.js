// What the account has, as choices for fields: its models, jobs, deployments, files, keys.

import { send } from "./http.js";
import { listen, session } from "./session.js";

const KEPT_MS = 15_000;
const kept = new Map();
let owner = session.key;

listen(({ key }) => {
  if (key !== owner) kept.clear();
  owner = key;
});

/** Forget what was read: something was made or changed. */
export function forget() {
  kept.clear();
}

/** The first page of a list, or [] where the key cannot read it. */
export async function list(path) {
  if (!session.key || session.isRefused) return [];
  const found = kept.get(path);
  if (found && performance.now() - found.at < KEPT_MS) return found.items;
  const items = read(path);
  kept.set(path, { at: performance.now(), items });
  return items;
}

async function read(path) {
  const answer = await send({ method: "GET", path: `${path}?limit=100` });
  if (!answer.ok) kept.delete(path);
  return answer.json?.data ?? [];
}

/** Models that can be asked, those that answer at once first. */
export async function readyModels() {
  const models = await list("/models");
  return models.filter((each) => each.status === "ready").sort((a, b) => isServed(b) - isServed(a));
}

function isServed(model) {
  return Number(model.deployments.length > 0);
}

/** [{id, label}] of what a deployment's figures can be read of: the organization's own, and the public models'. */
export async function deployments() {
  const [own, models] = await Promise.all([list("/deployments"), list("/models")]);
  const known = new Set(own.map((each) => each.id));
  const others = models.flatMap((model) => model.deployments.filter((id) => !known.has(id)).map((id) => ({ id, label: `${model.id} · ${id}` })));
  return [...own.map((each) => ({ id: each.id, label: `${each.model} · ${each.id}` })), ...others];
}

/** The choices of a path parameter of an operation as [value, label], the likeliest first. */
export async function choicesOf(operation, name, collection) {
  if (!collection || collection.includes("{")) return [];
  if (name === "deployment_id" && operation.method === "GET") return (await deployments()).map(({ id, label }) => [id, label]);
  if (name === "model_id" && operation.method === "POST") {
    const models = operation.id === "publish_model" ? await training() : await readyModels();
    return models.map(choice);
  }
  const items = await list(collection);
  return [...items].sort((a, b) => likelihood(operation, b) - likelihood(operation, a)).map(choice);
}

async function training() {
  return (await list("/models")).filter((each) => each.status === "training");
}

function likelihood(operation, { status, progress }) {
  if (operation.id === "cancel_job") return Number(status === "queued" || status === "processing");
  if (operation.id === "retry_job" || operation.id === "get_errors") return Number(progress?.failed > 0);
  return Number(operation.id === "get_output" && status === "completed");
}

function choice(item) {
  const said = item.filename ?? (item.object === "deployment" || item.object === "batch_job" ? item.model : item.name);
  return [item.id, [said, item.id, item.object === "model" ? null : item.status].filter(Boolean).join(" · ")];
}

/** The choices of a field of a request's body as [value, label]. */
export async function fieldChoices(operation, name) {
  if (name === "region") return session.start.regions.map((each) => [each, each]);
  if (name === "plan") return Object.keys(session.start.plans).map((each) => [each, each]);
  if (name === "input_url") return files(/\.(csv|jsonl)(\.gz|\.zst)?$/);
  if (name !== "model_uri") return [];
  const own = await files(/\.(onnx|zip|gz)$/);
  if (operation.id !== "create_deployment") return own;
  return [...(await readyModels()).map((each) => [`models://${each.id}`, `models://${each.id}`]), ...own];
}

/** What makes the first choice of a field where the account has none: {label, make}, or null. */
export function makerOf(name) {
  return name === "input_url" ? { label: "Upload two sample reviews", make: uploadSample } : null;
}

async function uploadSample() {
  const body = new Blob(['{"id":"a","text":"a joy from start to end"}\n{"id":"b","text":"dull"}\n']);
  const answer = await send({ method: "POST", path: "/files?filename=reviews.jsonl", headers: { "content-type": "application/octet-stream" }, body });
  forget();
  return answer.ok ? [[`fyre://files/${answer.json.id}`, `${answer.json.filename} · ${answer.json.id}`]] : [];
}

async function files(pattern) {
  const found = (await list("/files")).filter((each) => pattern.test(each.filename ?? ""));
  return found.map((each) => [`fyre://files/${each.id}`, `${each.filename} · ${each.id}`]);
}

/** The inputs to try a model with. */
export async function inputsFor(modelId) {
  const model = (await list("/models")).find((each) => each.id === modelId);
  if (!model || model.example === null) return null;
  const isText = typeof model.example === "string";
  return isText ? [model.example, "a complete waste of time"] : [model.example];
}
