// Quick Test 2: a batch job, from rows to a file of results.

import { forget, readyModels } from "../account.js";
import { button, fill, h, labelled, select } from "../dom.js";
import { CallError, call, poll, send } from "../http.js";
import { bytes, count, plural } from "../words.js";
import { flowFrame, predicted, runButton, stepList } from "./flow.js";

const TEXTS = ["a joy from start to end", "dull and far too long", "the best thing I saw this year", "nobody should have to watch this", "charming, if a little slow"];
const SHOWN = 5;
const SHOWN_BYTES = 100_000;
const STEPS = [["upload", "Upload the rows"], ["create", "Create the job"], ["process", "Run the model over every row"], ["results", "Results"]];

export async function batchFlow({ signal }) {
  const models = (await readyModels()).filter((each) => typeof each.example === "string" || each.example !== null);
  models.sort((a, b) => Number(b.id.startsWith("sentiment")) - Number(a.id.startsWith("sentiment")));
  if (!models.length) return flowFrame("Run a batch job", "There is no model to run yet.", h("a", { class: "button primary", href: "#/test/deploy" }, "Deploy a model"));
  const model = select(models.map((each) => [each.id, each.id]), { on: { change: suggest } });
  const rows = h("textarea", { class: "code", rows: 6, spellcheck: "false" });
  const file = h("input", { type: "file", accept: ".csv,.jsonl,.gz,.zst" });
  const outcome = h("div", { class: "outcome" });

  function suggest() {
    const { example } = models.find((each) => each.id === model.value);
    const values = typeof example === "string" ? TEXTS.map((text, at) => ({ id: `row-${at + 1}`, text })) : [example, example];
    rows.value = `${values.map((each) => JSON.stringify(each)).join("\n")}\n`;
  }
  function source() {
    const chosen = file.files[0];
    return chosen ? { blob: chosen, name: chosen.name } : { blob: new Blob([rows.value]), name: "rows.jsonl" };
  }
  suggest();
  return flowFrame("Create a batch job", "A model over every row of a file: bad rows get an error of their own, all others a result, in order.",
    h("section", { class: "card" }, labelled("Model", model), labelled("Rows as JSONL", rows), labelled("or a CSV or JSONL file", file, "With a file the rows above are left out."),
      runButton("Run the job", () => run({ model: model.value, source: source(), outcome, signal }), outcome, { signal })),
    outcome);
}

async function run({ model, source, outcome, signal }) {
  const steps = stepList(STEPS);
  const bar = h("progress", { max: 1, "aria-label": "Rows done" });
  const rows = h("span", { class: "rows" }, "");
  const canceling = button("Cancel the job", () => {}, "quiet");
  const moving = h("div", { class: "bar-row", hidden: true }, bar, rows, canceling);
  const results = h("div", {});
  fill(outcome, steps, moving, results);
  try {
    steps.set("upload", "current", bytes(source.blob.size));
    const uploaded = await upload(source, signal);
    steps.set("upload", "done", uploaded.id);
    steps.set("create", "current");
    const job = await call("POST", `/batch/${encodeURIComponent(model)}`, { input_url: `fyre://files/${uploaded.id}` }, { signal });
    forget();
    steps.set("create", "done", job.id);
    steps.set("process", "current", job.status);
    moving.hidden = false;
    canceling.addEventListener("click", () => send({ method: "POST", path: `/jobs/${job.id}/cancel` }));
    const ended = await poll(`/jobs/${job.id}`, { signal, isDone: (each) => each.finished !== null, show: (each) => showProgress(each, { steps, bar, rows }), everyMs: 500 });
    canceling.remove();
    await showEnd(ended, { steps, results, signal, given: await firstRows(source) });
  } catch (error) {
    steps.fail();
    throw error;
  }
}

async function upload({ blob, name }, signal) {
  const answer = await send({
    method: "POST", path: `/files?${new URLSearchParams({ filename: name })}`, body: blob, signal, headers: { "content-type": "application/octet-stream" },
  });
  if (!answer.ok) throw new CallError(answer);
  return answer.json;
}

function showProgress({ status, progress, queue_position: place }, { steps, bar, rows }) {
  steps.set("process", "current", status === "queued" && place ? `queued, number ${place}` : status);
  const { processed, total } = progress;
  if (total === null) bar.removeAttribute("value");
  else bar.value = total ? processed / total : 1;
  fill(rows, total === null ? plural(processed, "row") : `${count(processed)} of ${plural(total, "row")}`);
}

/** The first rows of a JSONL source as they were given, to show beside their results; of other sources none. */
async function firstRows({ blob, name }) {
  if (!name.endsWith(".jsonl")) return [];
  const lines = (await blob.slice(0, SHOWN_BYTES).text()).split("\n").filter(Boolean);
  return lines.slice(0, SHOWN * 4).map(parsedOrNull);
}

function parsedOrNull(line) {
  try {
    return JSON.parse(line);
  } catch {
    return null;
  }
}

function rowSaid({ index, id }, given) {
  const row = given[index];
  const text = typeof row === "string" ? row : row?.text;
  return text ?? (Array.isArray(row) ? row : id ?? `row ${index}`);
}

async function showEnd(job, { steps, results, signal, given }) {
  const { succeeded, failed } = job.progress;
  const isGood = job.status === "completed";
  steps.set("process", isGood ? "done" : "failed", `${job.status}: ${plural(succeeded, "result")}, ${plural(failed, "error")}`);
  if (job.error) results.append(h("p", { class: "trouble" }, h("code", {}, job.error.code), ` ${job.error.message}`));
  const errors = failed > 0 && h("a", { class: "button plain", href: job.errors_url, download: `${job.id}.errors.jsonl` }, "Download the errors");
  if (!job.output_url || !succeeded) {
    steps.set("results", "failed", "none");
    results.append(...(job.errors_url && errors ? [h("div", { class: "actions" }, errors)] : []));
    return;
  }
  const output = await send({ method: "GET", path: `/jobs/${job.id}/output`, headers: { range: `bytes=0-${SHOWN_BYTES - 1}` }, signal });
  if (!output.ok) throw new CallError(output);
  const lines = output.text.split("\n").slice(0, -1).slice(0, SHOWN).map((line) => JSON.parse(line));
  results.append(
    h("ol", { class: "predictions" }, lines.map((each) => predicted(rowSaid(each, given), each.result))),
    // The links carry their own signature: the browser writes what they bring to disk, however large it is.
    h("div", { class: "actions" },
      h("a", { class: "button primary", href: job.output_url, download: `${job.id}.results.jsonl` }, `Download the results (${bytes(sizeOf(output))})`),
      errors));
  steps.set("results", "done", `${plural(succeeded, "line")}${job.partial ? ", partial" : ""}`);
}

/** Of the whole file, of which this answer is the beginning. */
function sizeOf({ headers, blob }) {
  const range = Object.fromEntries(headers)["content-range"];
  return range ? Number(range.split("/")[1]) : blob.size;
}
