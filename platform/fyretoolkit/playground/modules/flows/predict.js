// Quick Test 1: a prediction, on a sentiment model or any other.

import { readyModels } from "../account.js";
import { fill, h, labelled, select } from "../dom.js";
import { call } from "../http.js";
import { ms } from "../words.js";
import { flowFrame, predicted, runButton } from "./flow.js";

const SENTENCES = ["An utterly compelling film", "I want those two hours back", "Not bad, but not good either"];

export async function predictFlow({ signal }) {
  const models = (await readyModels()).sort((a, b) => isSentiment(b) - isSentiment(a));
  const model = select(models.map((each) => [each.id, each.id]), { on: { change: suggest } });
  const inputs = h("textarea", { rows: 4, spellcheck: "false" });
  const about = h("p", { class: "hint" });
  const result = h("div", { class: "outcome", "aria-live": "polite" });
  const chosen = () => models.find((each) => each.id === model.value);

  function suggest() {
    const { description, example } = chosen();
    fill(about, description);
    inputs.value = typeof example === "string" ? SENTENCES.join("\n") : JSON.stringify(example);
  }
  function given() {
    const lines = inputs.value.split("\n").map((each) => each.trim()).filter(Boolean);
    return typeof chosen().example === "string" ? lines : lines.map(parsedOr);
  }
  async function run() {
    const sent = given();
    fill(result, h("p", { class: "loading" }, "Asking the model …"));
    const began = performance.now();
    const answer = await call("POST", `/predict/${encodeURIComponent(model.value)}`, { inputs: sent }, { signal }).finally(() => fill(result));
    const took = performance.now() - began;
    fill(result,
      h("ol", { class: "predictions" }, answer.results.map((each, at) => predicted(sent[at], each))),
      h("p", { class: "hint" }, `${ms(answer.usage.latency_ms)} on the platform (${ms(answer.usage.compute_ms)} of it the model's), `
        + `${ms(took)} to this browser and back, by ${answer.usage.deployment} in ${answer.usage.region}.`),
      h("p", {}, h("a", { href: `#/test/metrics/${answer.usage.deployment}` }, "See it in the metrics")));
  }

  if (!models.length) return flowFrame("Run a prediction", "There is no model to ask yet. Deploy one first.", h("a", { class: "button primary", href: "#/test/deploy" }, "Deploy a model"));
  suggest();
  return flowFrame("Predict sentiment", "One input a line. The answer comes from the model that is running now.",
    h("section", { class: "card" }, labelled("Model", model), about, labelled("Inputs", inputs), runButton("Run the prediction", run, result, { signal })),
    result);
}

function isSentiment(model) {
  return Number(model.id.startsWith("sentiment") && model.deployments.length > 0);
}

function parsedOr(line) {
  try {
    return JSON.parse(line);
  } catch {
    return line;
  }
}
