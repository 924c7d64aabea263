// Who is signed in, in this tab alone: the key lies in sessionStorage, which ends with the tab, and nowhere else.

const KEY = "fyre.key";
const listeners = new Set();

/** `start`: what /playground/start.json says. `isAdmin`: null until it is known. `standing`: the limits last heard of. */
export const session = { key: stored(), start: null, isAdmin: null, isRefused: false, standing: null };

/** Hear of every change; the answer ends it. */
export function listen(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

export function change(changes) {
  Object.assign(session, changes);
  listeners.forEach((listener) => listener(session));
}

/** Use this key from now on; null signs out. */
export function useKey(key) {
  try {
    if (key) sessionStorage.setItem(KEY, key);
    else sessionStorage.removeItem(KEY);
  } catch { /* storage is switched off: the key then lives as long as the page */ }
  change({ key, isAdmin: null, isRefused: false, standing: null });
}

/** The key as it may be shown: its id and its end. */
export function masked(key) {
  const found = /^(sk_live_)(?:key_)?(.{4}).*(.{4})$/.exec(key);
  return found ? `${found[1]}${found[2]}…${found[3]}` : "key";
}

function stored() {
  try {
    return sessionStorage.getItem(KEY);
  } catch {
    return null;
  }
}
