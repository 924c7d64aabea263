// Quick Test 3: a deployment, its stages as they come, and the first prediction that it answers.

import { forget, inputsFor, readyModels } from "../account.js";
import { button, fill, h, labelled, select } from "../dom.js";
import { CallError, call, poll, send } from "../http.js";
import { session } from "../session.js";
import { clock, ms } from "../words.js";
import { flowFrame, predicted, runButton, stepList } from "./flow.js";

const STAGES = ["fetching", "inspecting", "starting", "warming", "ready"];
const NAMES = { fetching: "Fetch the artifact", inspecting: "Inspect it in a sandbox", starting: "Start a replica", warming: "First real inference", ready: "Ready for traffic" };

export async function deployFlow({ signal }) {
  const models = (await readyModels()).sort((a, b) => Number(b.id === "digits") - Number(a.id === "digits"));
  const model = select(models.map((each) => [each.id, each.id]));
  const file = h("input", { type: "file", accept: ".onnx,.zip,.gz" });
  const region = select(session.start.regions.map((each) => [each, each]));
  const outcome = h("div", { class: "outcome" });
  const wanted = () => ({ model: model.value, file: file.files[0], region: region.value });
  return flowFrame("Deploy a model", "A registered model, or an ONNX file of your own. It is ready only after it has answered a real input.",
    h("section", { class: "card" }, labelled("Model", model), labelled("or an ONNX file or package", file, "With a file the model above is left out."), labelled("Region", region),
      runButton("Deploy", () => run({ ...wanted(), outcome, signal }), outcome, { signal })),
    outcome);
}

async function run({ model, file, region, outcome, signal }) {
  const steps = stepList([...STAGES.map((stage) => [stage, NAMES[stage]]), ["predict", "Answer a prediction"]]);
  const after = h("div", {});
  fill(outcome, steps, after);
  try {
    const body = { model_uri: file ? await uploaded(file, signal) : `models://${model}`, region };
    const made = await call("POST", "/deployments", body, { signal });
    forget();
    const show = (deployment) => showStages(deployment, steps);
    show(made);
    const settled = await poll(`/deployments/${made.id}`, { signal, show, isDone: (each) => each.status !== "provisioning", everyMs: 400 });
    after.append(h("p", { class: "hint" }, h("code", {}, made.id), ` answers `, h("code", {}, `POST ${settled.endpoint}`)));
    if (settled.status === "failed") { showFailure(settled, { steps, after }); return; }
    await firstPrediction(settled, { steps, after, signal });
    after.append(actions(settled, outcome));
  } catch (error) {
    steps.fail();
    throw error;
  }
}

async function uploaded(file, signal) {
  const answer = await send({
    method: "POST", path: `/files?${new URLSearchParams({ filename: file.name })}`, body: file, signal, headers: { "content-type": "application/octet-stream" },
  });
  if (!answer.ok) throw new CallError(answer);
  return `fyre://files/${answer.json.id}`;
}

function showStages({ status, stage, events }, steps) {
  const at = STAGES.indexOf(status === "ready" ? "ready" : stage);
  STAGES.forEach((each, number) => {
    const event = events.filter((one) => one.stage === each).at(-1);
    const note = event && `${clock(event.at)} ${event.message}`;
    const isDone = number < at || status === "ready";
    steps.set(each, isDone ? "done" : number === at ? "current" : "waiting", note);
  });
}

function showFailure({ error }, { steps, after }) {
  steps.fail();
  after.append(h("div", { class: "failure", role: "alert" }, h("p", {}, h("strong", {}, "It cannot be served. "), h("code", {}, error.code)), h("p", {}, error.message)));
}

async function firstPrediction(deployment, { steps, after, signal }) {
  steps.set("predict", "current");
  const inputs = await inputsFor(deployment.model);
  if (!inputs) { steps.set("predict", "done", "this model names no example to try"); return; }
  const answer = await call("POST", deployment.endpoint, { inputs }, { signal });
  steps.set("predict", "done", `${ms(answer.usage.latency_ms)}, by ${answer.usage.deployment}`);
  after.append(h("ol", { class: "predictions" }, answer.results.map((each, at) => predicted(inputs[at], each))));
}

function actions({ id }, outcome) {
  return h("div", { class: "actions" },
    h("a", { class: "button plain", href: `#/test/metrics/${id}` }, "View its metrics"),
    button("Delete this deployment", async (event) => {
      event.target.disabled = true;
      const answer = await send({ method: "DELETE", path: `/deployments/${id}` });
      forget();
      if (answer.ok) fill(outcome, h("p", { class: "hint", role: "status" }, "Deleted: requests under way finish, then its replica is freed."));
      else event.target.disabled = false;
    }, "quiet"));
}
