// Hodi in the browser: hear what becomes of a payment, the moment it is known.
//
//   import { subscribe, initiate } from "http://127.0.0.1:8787/client.js";
//
//   const updates = subscribe({
//     session: "order-1042",
//     onMessage: (message) => show(message.data.status, message.data.reason),
//     onState: (state) => showFreshness(state),
//   });
//   await initiate("http://127.0.0.1:8787", "order-1042", { phoneNumber: "0708 374 149", amount: 100 });
//
// A subscription reads a numbered history and remembers where it is. It reconnects for ever and by itself, asks for what
// came after the last message it saw, and gives each message once. A socket that has gone silent is found out.
//
// In order: the messages, the cursor, what a session's payment is, one connection after another, asking for a payment.

/**
 * The state of one payment. Facts that are not known are absent.
 * @typedef {object} Data
 * @property {"PENDING"|"SUCCESS"|"FAILED"|"UNKNOWN"} status
 * @property {string} [paymentId]
 * @property {string} [merchantRequestId]
 * @property {string} [checkoutRequestId]
 * @property {string} [timestamp] when the payment began
 * @property {number|string} [resultCode]
 * @property {string} [resultDesc]
 * @property {string} [mpesaReceiptNumber]
 * @property {string} [completedAt]
 * @property {string} [outcome] one word: paid, cancelled, wrong_pin ...
 * @property {string} [reason] one plain English sentence
 * @property {string} [reasonSw] the same in Swahili
 * @property {number} [amount] in shillings
 * @property {boolean} [amountChecked]
 * @property {string} [accountReference]
 * @property {string} [phoneNumber] masked
 * @property {string} [shortcode]
 * @property {number} [attempt] 1 for the session's first payment
 */

/**
 * @typedef {object} Message
 * @property {"PAYMENT_UPDATE"|"STK_INITIATED"|"PAYMENT_COMPLETED"} type
 * @property {string} id the cursor of this event
 * @property {string} time
 * @property {string} session
 * @property {boolean} final the payment has ended; only SUCCESS is irrevocable, so keep listening
 * @property {boolean} replay a completion told again to one who came after it
 * @property {boolean} [gap] something before this may have been missed; this is the present state
 * @property {string} [callback]
 * @property {Data} data
 */

/**
 * connecting: not heard from yet. live: connected, and lately heard from. stale: was live, and is trying to be again;
 * what is on the screen may be old. closed: over, by close() or because the server will not have us.
 * @typedef {"connecting"|"live"|"stale"|"closed"} State
 */

/**
 * @typedef {object} Detail what onState is told besides the state
 * @property {number} lastHeard when the server was last heard from, in ms as Date.now(); 0: never
 * @property {number} [code] the close code, when closed by the server
 * @property {string} [reason]
 * @property {"websocket"|"sse"} [transport]
 * @property {boolean} [resumed] on becoming live: the connection goes on after a cursor, so nothing was missed
 */

/**
 * @typedef {object} Subscription
 * @property {() => void} close
 * @property {() => void} wake look at the connection now, and try again now if there is none
 * @property {State} state
 * @property {number} lastHeard
 * @property {string|undefined} cursor the id of the newest message
 * @property {"websocket"|"sse"|undefined} transport
 */

/**
 * Close codes that no retry will change: bad request, not authorised, forbidden, no such session.
 * @param {number} code
 */
export function permanent(code) {
  return code === 4400 || code === 4401 || code === 4403 || code === 4404;
}

// ---- the cursor

const cursorForm = /^([0-9a-f]{12})-([0-9a-f]{16})$/;

/**
 * Reports whether the event of one id came after that of another. Ids compare only within an epoch: a server that
 * started its history anew is always newer than what we knew of the old one.
 * @param {string} id
 * @param {string} [than]
 */
export function isNewer(id, than) {
  if (!than) return true;
  const a = cursorForm.exec(id), b = cursorForm.exec(than);
  if (!a || !b || a[1] !== b[1]) return id !== than;
  return a[2] > b[2];
}

/** Inbox remembers how far a subscription has read, and tells a message that it has seen from one that is new. */
export class Inbox {
  /** @param {string} [after] */
  constructor(after) {
    /** @type {string|undefined} */ this.cursor = after || undefined;
    /** @type {string|undefined} */ this.completed = undefined;
  }

  /**
   * @param {Message} message
   * @returns {boolean} whether it is to be handed on
   */
  take(message) {
    if (!message.id) return true;
    // The replay of a completion has the id of the snapshot before it: it is new to whoever waits for completions.
    if (message.replay && message.id === this.cursor) {
      const fresh = this.completed !== message.id;
      this.completed = message.id;
      return fresh;
    }
    const fresh = isNewer(message.id, this.cursor);
    if (fresh || message.gap) this.cursor = message.id;
    if (fresh && message.type === "PAYMENT_COMPLETED") this.completed = message.id;
    return fresh || message.gap === true;
  }
}

// ---- what a session's payment is

const rank = { PENDING: 0, UNKNOWN: 1, FAILED: 2, SUCCESS: 3 };

/** Present is the present payment of one session, as far as it was told. */
export class Present {
  constructor() {
    /** @type {Data|undefined} */ this.data = undefined;
    this.newest = 0; // the newest attempt that was ever the present one
    this.paidAt = 0; // when it was told that the present one is paid
  }

  /**
   * Takes what a message says, or what initiate answered (then without a message). Money is never unsaid; an answer that
   * news of the same attempt overtook changes nothing; and an older attempt speaks again only to say that it was paid.
   * @param {Data} told
   * @param {{type?: string, time?: string, gap?: boolean}} [message]
   * @returns {boolean} whether anything changed
   */
  take(told, { type, time, gap } = {}) {
    const known = this.data, attempt = told.attempt ?? 0;
    const same = known?.paymentId === told.paymentId;
    if (known && !gap) {
      if (same ? rank[told.status] < rank[known.status] : told.status !== "SUCCESS" && !this.#begun(told, type)) return false;
    }
    if (told.status === "SUCCESS" && (gap || known?.status !== "SUCCESS" || !same)) this.paidAt = Date.parse(time ?? told.completedAt) || 0;
    this.data = same && !gap ? { ...known, ...told } : told;
    this.newest = gap ? attempt : Math.max(this.newest, attempt);
    return true;
  }

  // Whether another attempt is a new one. After a payment it is, if it began later: one that began before and is still
  // heard of was overtaken by that payment.
  #begun(told, type) {
    if ((told.attempt ?? 0) <= this.newest) return false;
    return this.data.status !== "SUCCESS" || !type || !(Date.parse(told.timestamp) <= this.paidAt);
  }
}

// ---- one connection after another

/**
 * How long to wait before the next try, in ms. Quick, because a healed network should be noticed at once; never all
 * browsers together, because a server that restarts has them all at its door.
 * @param {number} attempt 1 for the first try after a connection was lost
 * @param {number} code the close code
 * @param {number} random 0 up to 1
 */
export function retryDelay(attempt, code, random) {
  if (code === 1013 || code === 4429) return 5000 + random * 10000;
  if (attempt <= 1) return 50 + random * 250;
  if (attempt <= 120) return 400 + random * 200;
  if (attempt <= 500) return 1000 + random * 1000;
  return 2000 + random * 3000;
}

/**
 * The addresses of a subscription's history.
 * @param {string} base
 * @param {string|undefined} session undefined: all of them
 */
export function addresses(base, session) {
  const root = base.replace(/\/+$/, "");
  const path = session === undefined ? root : `${root}/sessions/${encodeURIComponent(session)}`;
  return {
    websocket: (session === undefined ? `${path}/events` : `${path}/websocket`).replace(/^http/, "ws"),
    sse: `${path}/events`,
    probe: session === undefined ? `${root}/status` : path,
  };
}

/** The sidecar that served this module is the one it talks to, unless told otherwise. */
export function defaultBase() {
  const here = new URL(".", import.meta.url);
  if (here.protocol === "http:" || here.protocol === "https:") return here.href;
  return globalThis.location?.origin ?? "";
}

// A WebSocket that has not opened by then is taken for blocked or lost.
const openWithin = 5000;
// So many tries must fail before an EventSource is tried in its place: few where no WebSocket ever opened, for then
// something on the way does not let them through; more where one did, for then the server is only away.
const blockedAfter = 2, awayFor = 8;

/**
 * subscribe listens to a session, or to everything with `all`, until close().
 *
 * @param {object} options
 * @param {string} [options.base] the sidecar's address; default: where this module came from
 * @param {string} [options.session] the session to listen to
 * @param {boolean} [options.all] listen to every event of the sidecar
 * @param {string} [options.after] a cursor: only later events. Without one a session greets with its present state, and
 *   `all` starts at the newest event.
 * @param {(message: Message) => void} [options.onMessage] called once for each message, in order
 * @param {(state: State, detail: Detail) => void} [options.onState]
 * @param {number} [options.probe] ask after the server when it has been silent for so many ms; default 20 s, 0: never
 * @param {object} [options.platform] what the browser gives; for tests
 * @returns {Subscription}
 */
export function subscribe({ base = defaultBase(), session, all, after, onMessage, onState, probe = 20000, platform }) {
  if (!all && !session) throw new TypeError("hodi: subscribe needs a session, or all: true");
  const p = { ...browser(), ...platform };
  const address = addresses(base, all ? undefined : session);
  const inbox = new Inbox(after);

  /** @type {State} */ let state = "connecting";
  let lastHeard = 0;
  /** @type {"websocket"|"sse"|undefined} */ let transport;
  /** @type {WebSocket|EventSource|undefined} */ let connection;
  let turn = 0; // numbers the connections: what an older one still has to say is not heard
  let attempts = 0; // since one was last good
  let everOpened = false; // a WebSocket
  let suspect = ""; // the newest event the server spoke of that the connection did not bring
  let retryTimer, openTimer, probeTimer, suspectTimer;

  function set(next, detail = {}) {
    if (state === "closed" || (state === next && next !== "closed")) return;
    state = next;
    call(onState, state, { lastHeard, transport, ...detail });
  }

  function connect() {
    disconnect();
    const mine = ++turn;
    const resumed = inbox.cursor !== undefined;
    const place = resumed ? `?after=${encodeURIComponent(inbox.cursor)}` : "";
    const misses = attempts - (everOpened ? awayFor : blockedAfter);
    const plain = !p.WebSocket || (p.EventSource && misses >= 0 && misses % 2 === 0);
    let openedAt = 0;

    const opened = () => {
      if (mine !== turn) return;
      p.clearTimeout(openTimer);
      openedAt = p.now();
      lastHeard = openedAt;
      everOpened ||= !plain;
      set("live", { resumed });
    };
    const received = (text) => {
      if (mine !== turn) return;
      attempts = 0;
      lastHeard = p.now();
      let message;
      try {
        message = JSON.parse(text);
      } catch {
        return;
      }
      if (message?.data && inbox.take(message)) call(onMessage, message);
    };
    const ended = (code, reason) => {
      if (mine !== turn) return;
      if (openedAt && p.now() - openedAt > 3000) attempts = 0;
      if (permanent(code)) finish(code, reason);
      else retry(code);
    };

    transport = plain ? "sse" : "websocket";
    openTimer = p.setTimeout(() => ended(1006, "no answer"), openWithin);
    try {
      if (plain) {
        const source = (connection = new p.EventSource(address.sse + place));
        source.onopen = opened;
        const hear = (event) => received(event.data);
        for (const type of ["message", "PAYMENT_UPDATE", "STK_INITIATED", "PAYMENT_COMPLETED"]) {
          source.addEventListener(type, hear);
        }
        source.onerror = async () => {
          const refused = source.readyState === 2 && !openedAt;
          ended(refused ? await whyRefused(p, address.sse + place) : 1006, "");
        };
      } else {
        const socket = (connection = new p.WebSocket(address.websocket + place));
        socket.onopen = opened;
        socket.onmessage = (event) => received(event.data);
        socket.onclose = (event) => ended(event.code, event.reason);
      }
    } catch {
      ended(1006, "");
    }
  }

  function disconnect() {
    for (const timer of [retryTimer, openTimer, suspectTimer]) p.clearTimeout(timer);
    retryTimer = undefined;
    turn++;
    try {
      connection?.close();
    } catch {
      // It never opened.
    }
    connection = undefined;
  }

  function retry(code) {
    disconnect();
    attempts++;
    set(state === "connecting" ? "connecting" : "stale");
    retryTimer = p.setTimeout(connect, retryDelay(attempts, code, p.random()));
  }

  function finish(code, reason) {
    disconnect();
    p.clearTimeout(probeTimer);
    for (const [target, type, listener] of listeners) target?.removeEventListener?.(type, listener);
    set("closed", { code, reason });
  }

  // A browser shows no pings, and a socket whose other end is gone says nothing for many minutes. So when it has been
  // silent for long, the server is asked in another way; and if it knows of something newer than we were sent, the
  // socket is dead.
  async function verify() {
    const mine = turn;
    let answer;
    try {
      answer = await ask(p, address.probe, 5000);
    } catch {
      if (mine === turn && state === "live") retry(1006);
      return;
    }
    if (mine !== turn || state !== "live") return;
    lastHeard = p.now();
    const head = all ? answer?.head : answer?.data && answer.id;
    if (typeof head !== "string" || !cursorForm.test(head) || head === suspect) return;
    if (all && inbox.cursor === undefined) return;
    if (isNewer(head, inbox.cursor)) {
      suspectTimer = p.setTimeout(() => {
        if (mine !== turn || !isNewer(head, inbox.cursor)) return;
        suspect = head;
        retry(1006);
      }, 2000);
    }
  }

  let ticked = p.now();
  function tick() {
    const slept = p.now() - ticked > 3 * every;
    ticked = p.now();
    probeTimer = p.setTimeout(tick, every);
    if (slept) return renew();
    if (probe && state === "live" && p.now() - lastHeard >= probe && p.visible()) verify();
  }
  const every = Math.max(1000, Math.min(5000, probe || 5000) / 2);

  // The network changed, or the machine slept: whatever the socket says of itself is not to be believed. A new one costs
  // little and goes on where the old one was.
  function renew() {
    if (state === "closed") return;
    attempts = 0;
    set(state === "connecting" ? "connecting" : "stale");
    connect();
  }

  function wake() {
    if (state === "closed") return;
    if (retryTimer !== undefined) connect();
    else if (state === "live" && p.now() - lastHeard > 1000) verify();
  }

  // "offline" is not always true: the sidecar may be on this very machine. It is a reason to look, not to give up.
  const listeners = [
    [p.window, "online", renew],
    [p.window, "offline", wake],
    [p.window, "pageshow", wake],
    [p.window, "focus", wake],
    [p.document, "visibilitychange", () => p.visible() && wake()],
  ];
  for (const [target, type, listener] of listeners) target?.addEventListener?.(type, listener);
  probeTimer = p.setTimeout(tick, every);
  connect();

  return {
    close: () => state !== "closed" && finish(1000, ""),
    wake,
    get state() { return state; },
    get lastHeard() { return lastHeard; },
    get cursor() { return inbox.cursor; },
    get transport() { return transport; },
  };
}

function browser() {
  const g = globalThis;
  return {
    WebSocket: g.WebSocket,
    EventSource: g.EventSource,
    fetch: (...args) => g.fetch(...args),
    setTimeout: (f, ms) => g.setTimeout(f, ms),
    clearTimeout: (timer) => g.clearTimeout(timer),
    now: () => Date.now(),
    random: () => Math.random(),
    window: g.window,
    document: g.document,
    visible: () => g.document?.visibilityState !== "hidden",
  };
}

// A listener that throws must not end the subscription.
function call(listener, ...args) {
  try {
    listener?.(...args);
  } catch (error) {
    (globalThis.reportError ?? console.error)(error);
  }
}

async function ask(p, url, within, headers) {
  const abort = new AbortController();
  const timer = p.setTimeout(() => abort.abort(), within);
  try {
    const response = await p.fetch(url, { cache: "no-store", signal: abort.signal, headers });
    return response.ok ? await response.json().catch(() => undefined) : undefined;
  } finally {
    p.clearTimeout(timer);
  }
}

// An EventSource does not tell why it was refused; a fetch of the same address does.
async function whyRefused(p, url) {
  const abort = new AbortController();
  try {
    const response = await p.fetch(url, { signal: abort.signal, headers: { Accept: "text/event-stream" } });
    const codes = { 400: 4400, 401: 4401, 403: 4403, 404: 4404, 429: 4429, 503: 1013 };
    return codes[response.status] ?? 1006;
  } catch {
    return 1006;
  } finally {
    abort.abort();
  }
}

// ---- asking for a payment

/** HodiError is an answer other than a payment: a problem that the server told (RFC 9457), or no answer at all. */
export class HodiError extends Error {
  /**
   * @param {string} message
   * @param {{status?: number, kind?: string, retryAfter?: number, problem?: object}} [facts]
   */
  constructor(message, { status = 0, kind = "", retryAfter, problem } = {}) {
    super(message);
    this.name = "HodiError";
    /** The HTTP status; 0: no answer, so it is not known whether the request arrived. */
    this.status = status;
    /** The last word of the problem's type: "prompt-live" ... */
    this.kind = kind;
    /** In seconds, where the server said when to try again. @type {number|undefined} */
    this.retryAfter = retryAfter;
    this.problem = problem;
  }
}

/** A key that makes a repeated request the same request. */
export function newKey() {
  const bytes = globalThis.crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (b) => b.toString(16).padStart(2, "0")).join("");
}

/**
 * initiate asks for a payment: the customer's phone shows M-Pesa's prompt. It resolves to the payment as it then is
 * (PENDING as a rule; FAILED if refused; UNKNOWN if nobody can say), and rejects with a HodiError.
 *
 * It sends nothing twice by itself. To repeat a request that had no answer, give the same idempotencyKey: whatever
 * became of the first, there is one payment.
 *
 * @param {string} base the sidecar's address
 * @param {string} session
 * @param {object} request
 * @param {string} request.phoneNumber
 * @param {number|string} [request.amount] in whole shillings; not needed where the session has one
 * @param {string} [request.accountReference]
 * @param {string} [request.shortcode] its name in hodi.toml
 * @param {boolean} [request.again] yes, although the last attempt is UNKNOWN and may have been paid
 * @param {string} [request.idempotencyKey]
 * @param {{fetch?: typeof fetch, within?: number}} [options]
 * @returns {Promise<Data>}
 */
export async function initiate(base, session, request, { fetch = globalThis.fetch.bind(globalThis), within = 60000 } = {}) {
  const { idempotencyKey = newKey(), ...body } = request;
  const abort = new AbortController();
  const timer = setTimeout(() => abort.abort(), within);
  let response, answer;
  try {
    response = await fetch(`${(base || defaultBase()).replace(/\/+$/, "")}/sessions/${encodeURIComponent(session)}/initiate`, {
      method: "POST",
      headers: { "Content-Type": "application/json", "Idempotency-Key": idempotencyKey },
      body: JSON.stringify(body),
      signal: abort.signal,
    });
    answer = await response.json().catch(() => undefined);
  } catch (error) {
    throw new HodiError(`hodi: no answer: ${error.message}`);
  } finally {
    clearTimeout(timer);
  }
  if (response.ok && answer?.status) return answer;
  const seconds = Number(response.headers.get("Retry-After") ?? answer?.retryAfter);
  throw new HodiError(answer?.detail || answer?.title || `hodi: the server answered ${response.status}`, {
    status: response.status,
    kind: String(answer?.type ?? "").split(/[/:#]/).pop(),
    retryAfter: seconds > 0 ? seconds : undefined,
    problem: answer,
  });
}
