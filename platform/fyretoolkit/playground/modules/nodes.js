// The machines below the deployments: what each has, what is free of it, what is there.

import { failure } from "./answer.js";
import { fill, h, table } from "./dom.js";
import { bytes, clock, plural } from "./words.js";

const HEADS = ["Node", "State", "Regions", "CPUs free", "GPUs free", "Memory free", "Replicas here"];

/** Puts what `GET /nodes` answered into its place. `deployments`: by which their models are named. */
export function showNodes(place, answer, { deployments, retry }) {
  if (!answer.ok) { fill(place, h("h2", {}, "Nodes"), failure(answer, { retry })); return; }
  const { data, has_more: hasMore } = answer.json;
  const models = new Map(deployments.map(({ id, model }) => [id, model]));
  const seen = Math.max(0, ...data.map((each) => each.observed_at));
  fill(place, h("h2", {}, "Nodes"),
    h("p", { class: "hint" }, `${hasMore ? "The first " : ""}${plural(data.length, "node")}, as seen at ${clock(seen)}. Free is what no replica or worker has reserved.`),
    table(HEADS, data.map((each) => row(each, models)), { caption: "Nodes" }));
}

function row({ id, alive, head, regions, cpus, gpus, memory_bytes: memory, deployments }, models) {
  return [
    h("code", { title: id }, id.slice(0, 12)),
    h("span", { class: `pill ${alive ? "good" : "bad"}` }, alive ? (head ? "head" : "alive") : "dead"),
    regions.join(", ") || "–",
    share(cpus), share(gpus),
    memory.total ? `${bytes(memory.free)} of ${bytes(memory.total)}` : "–",
    deployments.length ? h("ul", { class: "replicas-here" }, deployments.map((each) => h("li", {}, `${models.get(each.id) ?? each.id} × ${each.replicas}`))) : "–",
  ];
}

function share({ free, total }) {
  return total ? `${free} of ${total}` : "–";
}
