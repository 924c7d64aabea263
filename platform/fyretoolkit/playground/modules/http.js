// Requests to this API, and what came back, timed. No cookie is sent, no redirect followed, no other host called.

import { notify } from "./notices.js";
import { change, session } from "./session.js";

const SHOWN_BYTES = 200_000;
const SLOWER = 1.15;
const SLOWEST_MS = 2000;

/** A call that ended in an answer that is not 2xx, or in none. */
export class CallError extends Error {
  constructor(answer) {
    super(answer.error.message);
    this.answer = answer;
    this.code = answer.error.code;
  }
}

/** The Authorization header of a key. */
export function authorization(key) {
  const raw = String.fromCharCode(...new TextEncoder().encode(`${key}:`));
  return `Basic ${btoa(raw)}`;
}

/**
 * One request. Answers {isReachable, ok, status, headers, ms, requestId, retryAfter, blob, text, json, error}, whatever
 * happened; `error` is null or {code, message, details}.
 */
export async function send({ method, path, headers = {}, body, key = session.key, signal }) {
  const sent = { accept: "*/*", ...headers };
  if (key) sent.authorization = authorization(key);
  const options = { method, headers: sent, body, signal, credentials: "omit", cache: "no-store", redirect: "error", mode: "same-origin" };
  const began = performance.now();
  try {
    const response = await fetch(path, options);
    const blob = await response.blob();
    const answer = await read(response, blob, performance.now() - began);
    remember(answer, key);
    return answer;
  } catch (error) {
    if (error.name === "AbortError") throw error;
    return unreachable(performance.now() - began);
  }
}

/** The same with a JSON body, answering the JSON. Throws CallError. */
export async function call(method, path, body, more = {}) {
  const json = body === undefined ? {} : { headers: { "content-type": "application/json" }, body: JSON.stringify(body) };
  const answer = await send({ method, path, ...json, ...more });
  if (!answer.ok) throw new CallError(answer);
  return answer.json ?? answer;
}

/** `call` again and again until `isDone(answer)`, at the pace the platform allows; `show` sees each answer. */
export async function poll(path, { isDone, show, signal, everyMs = 700 }) {
  let wasWell = true;
  for (let paused = everyMs; ; paused = Math.min(SLOWEST_MS, paused * SLOWER)) {
    const answer = await send({ method: "GET", path, signal });
    if (answer.ok) {
      show?.(answer.json);
      if (isDone(answer.json)) return answer.json;
    } else if (answer.isReachable && answer.status !== 429 && answer.status < 500) {
      throw new CallError(answer);
    } else if (wasWell) {
      notify(answer.status === 429 ? "The limit is used up: looking again when there is room." : `${answer.error.message} Looking again …`);
    }
    wasWell = answer.ok;
    await pause(answer.ok ? paused : (answer.retryAfter ?? 2) * 1000, signal);
  }
}

export function pause(durationMs, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, durationMs);
    signal?.addEventListener("abort", () => { clearTimeout(timer); reject(signal.reason); }, { once: true });
  });
}

async function read(response, blob, ms) {
  const type = response.headers.get("content-type") ?? "";
  const isText = /json|text|csv/.test(type);
  const text = isText ? await blob.slice(0, SHOWN_BYTES).text() : null;
  const json = type.startsWith("application/json") ? parsed(await blob.text()) : null;
  return {
    isReachable: true, ok: response.ok, status: response.status, statusText: response.statusText,
    headers: [...response.headers], ms, type, blob, text, json, isCut: isText && blob.size > SHOWN_BYTES,
    requestId: response.headers.get("x-request-id"),
    retryAfter: Number(response.headers.get("retry-after")) || null,
    error: response.ok ? null : json?.error ?? { code: `http_${response.status}`, message: "The answer is not one of this API." },
  };
}

function unreachable(ms) {
  const message = "The platform does not answer. It may be stopped or restarting; check it with `fyre status`, then try again.";
  return {
    isReachable: false, ok: false, status: 0, statusText: "", headers: [], ms, type: "", blob: null, text: null, json: null,
    isCut: false, requestId: null, retryAfter: null, error: { code: "unreachable", message },
  };
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/** Keeps what every answer says of the key: whether it works, and where its limits stand. */
function remember(answer, key) {
  if (!key || key !== session.key) return;
  const of = Object.fromEntries(answer.headers);
  if (answer.status === 401) change({ isRefused: true });
  else if (of["x-ratelimit-limit"]) {
    const [limit, remaining, reset] = ["limit", "remaining", "reset"].map((name) => Number(of[`x-ratelimit-${name}`]));
    change({ isRefused: false, standing: { limit, remaining, reset } });
  }
}
