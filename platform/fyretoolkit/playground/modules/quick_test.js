// The Quick Test: four flows, each ending in a real result on the platform that serves this page.

import { batchFlow } from "./flows/batch.js";
import { deployFlow } from "./flows/deploy.js";
import { metricsFlow } from "./flows/metrics.js";
import { predictFlow } from "./flows/predict.js";
import { h } from "./dom.js";
import { session } from "./session.js";

const FLOWS = [
  ["predict", "Predict sentiment", "Send sentences, read labels and how sure the model is.", predictFlow],
  ["batch", "Create a batch job", "A file through a model: watch it move, take the results home.", batchFlow],
  ["deploy", "Deploy a model", "Follow the stages from the artifact to the first answer.", deployFlow],
  ["metrics", "View metrics", "Latency and throughput as charts, two seconds old.", metricsFlow],
];

/** The view of a flow, or of all four. `signal` ends what a flow waits for when its page is left. */
export async function quickTestView(name, { signal, argument }) {
  if (!session.key) return needsKey();
  const found = FLOWS.find(([id]) => id === name);
  return found ? found[3]({ signal, argument }) : overview();
}

function overview() {
  return h("article", { class: "view" },
    h("h1", { tabindex: "-1" }, "Quick Test"),
    h("p", { class: "lead" }, "Four things this platform does, each with a real result at its end."),
    h("ol", { class: "choices" }, FLOWS.map(([id, heading, text], at) => h("li", {}, h("a", { class: "choice-card", href: `#/test/${id}` },
      h("span", { class: "number", "aria-hidden": "true" }, String(at + 1)), h("strong", {}, heading), h("span", {}, text))))));
}

/** What stands in the place of a view that needs a key. */
export function needsKey() {
  const isDevelopment = session.start.mode === "development";
  return h("article", { class: "view narrow" },
    h("h1", { tabindex: "-1" }, "A key comes first"),
    h("p", { class: "lead" }, isDevelopment ? "Make one of your own, or use the demo key: it takes a moment." : "Sign in with the key that you have."),
    h("a", { class: "button primary", href: "#/key" }, isDevelopment ? "Get API Key" : "Sign in by key"));
}
