// Quick Test 4: latency and throughput of a deployment, with traffic to look at where there is none.

import { deployments, inputsFor, list } from "../account.js";
import { chart } from "../charts.js";
import { fill, h, labelled, select } from "../dom.js";
import { call, pause, send } from "../http.js";
import { count, ms, percent } from "../words.js";
import { failure } from "../answer.js";
import { flowFrame, runButton } from "./flow.js";

const PERIODS = [["5m", "5 minutes"], ["1h", "1 hour"], ["24h", "24 hours"], ["7d", "7 days"]];
const CALLS = 40;
const AT_ONCE = 4;
const REFRESH_MS = 3000;

export async function metricsFlow({ signal, argument }) {
  const found = await deployments();
  if (!found.length) return flowFrame("View metrics", "Nothing is deployed yet.", h("a", { class: "button primary", href: "#/test/deploy" }, "Deploy a model"));
  const target = select(found.map(({ id, label }) => [id, label]), { on: { change: () => show() } });
  if (found.some(({ id }) => id === argument)) target.value = argument;
  const period = select(PERIODS, { on: { change: () => show() } });
  const outcome = h("div", { class: "outcome" }, h("p", { class: "loading" }, "Reading the figures …"));
  const trouble = h("div", {});
  const sent = h("p", { class: "hint", role: "status" });

  async function show() {
    const answer = await send({ method: "GET", path: `/metrics/${target.value}?period=${period.value}`, signal });
    if (!answer.ok) fill(outcome, failure(answer, { retry: show }));
    else if (answer.json.deployment_id === target.value) fill(outcome, figures(answer.json.metrics));
    return answer;
  }
  async function makeTraffic() {
    const id = target.value;
    const before = (await show()).json?.metrics.requests.total ?? 0;
    await traffic(await modelOf(id), { signal, onSent: (done) => fill(sent, `${done} of ${CALLS} predictions sent`) });
    fill(sent, "Waiting for the figures, which are at most two seconds old …");
    let counted = 0;
    for (let tries = 0; tries < 10 && counted < CALLS; tries += 1) {
      await pause(500, signal);
      counted = ((await show()).json?.metrics.requests.total ?? before) - before;
    }
    fill(sent, `${CALLS} predictions sent, ${counted} counted here.`);
  }
  async function keepShowing() {
    await show();
    while (!signal.aborted) {
      await pause(REFRESH_MS, signal);
      if (!document.hidden && !outcome.contains(document.activeElement)) await show();
    }
  }
  keepShowing().catch((error) => { if (error.name !== "AbortError") throw error; });
  return flowFrame("View metrics", "What a deployment did, at most two seconds ago. The figures move while this page is open.",
    h("section", { class: "card row" }, labelled("Deployment", target), labelled("Period", period),
      h("div", { class: "actions" }, runButton(`Send ${CALLS} predictions`, makeTraffic, trouble, { signal })), sent, trouble),
    outcome);
}

async function modelOf(id) {
  const own = (await list("/deployments")).find((each) => each.id === id);
  return own?.model ?? (await list("/models")).find((each) => each.deployments.includes(id))?.id;
}

async function traffic(model, { signal, onSent }) {
  const inputs = (await inputsFor(model)) ?? ["hello"];
  let begun = 0;
  let done = 0;
  async function lane() {
    while (begun < CALLS) {
      begun += 1;
      await call("POST", `/predict/${encodeURIComponent(model)}`, { inputs }, { signal });
      done += 1;
      onSent(done);
    }
  }
  await Promise.all(Array.from({ length: AT_ONCE }, lane));
}

function figures({ requests, latency, errors, throughput, series }) {
  const starts = series.map((each) => each.start);
  const column = (name) => series.map((each) => each[name]);
  return [
    h("dl", { class: "tiles" },
      tile("Requests", count(requests.total)), tile("p50", ms(latency.total.p50)), tile("p99", ms(latency.total.p99)),
      tile("Errors", percent(errors.rate)), tile("Inputs", count(throughput.inputs)), tile("Mean batch", throughput.mean_batch_size?.toFixed(1) ?? "–")),
    chart("Latency", { starts, say: ms, series: [
      { label: "p50", kind: "line", className: "first", values: column("p50") }, { label: "p99", kind: "line", className: "second", values: column("p99") }] }),
    chart("Requests", { starts, say: (value) => count(Math.round(value)), series: [
      { label: "requests", kind: "bars", className: "first", values: column("requests") }, { label: "failed", kind: "bars", className: "bad", values: column("failed") }] }),
    requests.total === 0 && h("p", { class: "empty" }, "No traffic in this period yet. Send some predictions above."),
  ];
}

function tile(name, value) {
  return h("div", { class: "tile" }, h("dt", {}, name), h("dd", {}, value));
}
