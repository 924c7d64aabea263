// For admin keys: the organization's deployments as they run; scale, roll out, roll back, drain; what the parts say; nodes.

import { forget } from "./account.js";
import { failure, statusPill } from "./answer.js";
import { button, fill, h, labelled } from "./dom.js";
import { pause, send } from "./http.js";
import { showNodes } from "./nodes.js";
import { notify } from "./notices.js";
import { clock } from "./words.js";

const REFRESH_MS = 3000;

export async function operationsView({ signal }) {
  const parts = h("div", { class: "parts" });
  const place = h("div", { class: "deployments", "aria-busy": "true" }, h("p", { class: "loading" }, "Reading the deployments …"));
  const nodes = h("section", { class: "nodes" });
  const open = new Set();

  async function show() {
    const [ready, answer, machines] = await Promise.all([
      send({ method: "GET", path: "/readyz", key: null, signal }),
      send({ method: "GET", path: "/deployments?limit=100", signal }),
      send({ method: "GET", path: "/nodes?limit=100", signal }),
    ]);
    fill(parts, checks(ready));
    place.removeAttribute("aria-busy");
    if (!answer.ok) fill(place, failure(answer, { retry: show }));
    else if (!place.contains(document.activeElement)) fill(place, listed(answer.json.data, { open, show }));
    showNodes(nodes, machines, { deployments: answer.ok ? answer.json.data : [], retry: show });
  }
  async function keepShowing() {
    await show();
    while (!signal.aborted) {
      await pause(REFRESH_MS, signal);
      if (!document.hidden) await show();
    }
  }
  keepShowing().catch((error) => { if (error.name !== "AbortError") throw error; });
  return h("article", { class: "view" },
    h("h1", { tabindex: "-1" }, "Operations"),
    h("p", { class: "lead" }, "Your organization's deployments as they run now. Changes are on disk before they are confirmed."),
    parts, place, nodes);
}

function checks(answer) {
  const known = answer.json?.checks ?? answer.json?.error?.details ?? {};
  return [h("span", { class: "parts-label" }, "Platform"), Object.keys(known).length
    ? Object.entries(known).map(([name, state]) => h("span", { class: `pill ${state === "ok" ? "good" : "bad"}` }, `${name}: ${state}`))
    : statusPill(answer)];
}

function listed(deployments, context) {
  if (!deployments.length) {
    return h("p", { class: "empty" }, "Your organization has no deployments. ", h("a", { href: "#/test/deploy" }, "Deploy a model"), ".");
  }
  return deployments.map((each) => card(each, context));
}

function card(deployment, { open, show }) {
  const { id, model, status, stage, replicas, region, traffic, autoscaling, events, error } = deployment;
  const trouble = h("div", {});
  const details = h("details", { class: "more", open: open.has(id), on: { toggle: (event) => (event.target.open ? open.add(id) : open.delete(id)) } },
    h("summary", {}, `Events (${events.length})`),
    h("ol", { class: "events" }, events.map((each) => h("li", {}, h("span", { class: "time" }, clock(each.at)), h("span", { class: "field-type" }, each.stage), h("span", {}, each.message)))));
  async function change(method, path, body, done) {
    const json = body && { headers: { "content-type": "application/json" }, body: JSON.stringify(body) };
    const answer = await send({ method, path: `/deployments/${id}${path}`, ...json });
    forget();
    document.activeElement?.blur();
    if (answer.ok) { notify(done); await show(); } else fill(trouble, failure(answer));
  }
  return h("section", { class: "card deployment", "aria-label": `${model}, ${id}`, "data-deployment": id },
    h("div", { class: "deployment-head" },
      h("div", {}, h("h2", {}, model), h("code", { class: "hint" }, id)),
      h("span", { class: `pill ${{ ready: "good", failed: "bad" }[status] ?? "warned"}` }, status === "provisioning" ? stage : status)),
    h("dl", { class: "facts" },
      fact("Replicas", `${replicas.ready} of ${replicas.desired}`), fact("Traffic", `${traffic}%`), fact("Region", region),
      fact("Scaling", autoscaling ? `${autoscaling.min_replicas} to ${autoscaling.max_replicas}, by load` : "fixed")),
    error && h("p", { class: "trouble" }, h("code", {}, error.code), ` ${error.message}`),
    h("div", { class: "actions" },
      scaling(deployment, change),
      button("Promote", () => change("POST", "/promote", null, "It takes all of the model's traffic"), "quiet"),
      button("Roll back", () => change("POST", "/rollback", null, "It takes no traffic any more"), "quiet"),
      button("Drain", () => confirmed(deployment, () => change("DELETE", "", null, "Draining: requests under way finish")), "quiet danger-text"),
      h("a", { class: "button quiet", href: `#/test/metrics/${id}` }, "Metrics")),
    trouble, details);
}

function fact(name, value) {
  return h("div", {}, h("dt", {}, name), h("dd", {}, value));
}

function scaling({ replicas, autoscaling }, change) {
  const wanted = h("input", { type: "number", min: 1, max: 1000, value: replicas.desired, disabled: autoscaling !== null });
  const set = button("Scale", () => change("PATCH", "", { replicas: Number(wanted.value) }, `${wanted.value} replicas are wanted now`), "plain", { disabled: autoscaling !== null });
  return h("div", { class: "scaling" }, labelled("Replicas", wanted), set);
}

/** Asks in a dialog; the keyboard is in it, and Escape leaves everything as it is. */
function confirmed({ id, model }, proceed) {
  const dialog = h("dialog", { "aria-label": "Drain the deployment" },
    h("h2", {}, `Drain ${model}?`),
    h("p", {}, h("code", {}, id), " takes no new requests from now on, finishes those under way, and is freed. This cannot be undone."),
    h("div", { class: "actions" },
      button("Keep it", () => dialog.close(), "plain", { autofocus: true }),
      button("Drain", () => { dialog.close(); proceed(); }, "danger")));
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}
