// The browser subscriber, on a pretend browser: no sockets, and a clock that is moved by hand.
import { test } from "node:test";
import assert from "node:assert/strict";
import { HodiError, Inbox, Present, addresses, initiate, isNewer, permanent, retryDelay, subscribe } from "../client.js";

const id = (seq, epoch = 1) => epoch.toString(16).padStart(12, "0") + "-" + seq.toString(16).padStart(16, "0");
const message = (seq, status = "PENDING", more = {}) => ({
  type: "PAYMENT_UPDATE", id: id(seq), session: "s", final: false, replay: false, data: { status }, ...more,
});

/** A browser with one tab, whose network is in the test's hands. */
class Browser {
  time = 1_000_000;
  timers = [];
  sockets = [];
  sources = [];
  shown = true;
  answer = () => new Response("{}");
  asked = [];
  window = new EventTarget();
  document = new EventTarget();

  constructor() {
    const tab = this;
    this.WebSocket = class {
      constructor(url) {
        this.url = url;
        tab.sockets.push(this);
      }
      close() { this.closed = true; }
      open() { this.onopen?.({}); }
      say(m) { this.onmessage?.({ data: JSON.stringify(m) }); }
      end(code = 1006, reason = "") { this.onclose?.({ code, reason }); }
    };
    this.EventSource = class {
      readyState = 0;
      listeners = {};
      constructor(url) {
        this.url = url;
        tab.sources.push(this);
      }
      addEventListener(type, f) { this.listeners[type] = f; }
      close() { this.closed = true; }
      say(type, m) { this.listeners[type]({ data: JSON.stringify(m) }); }
    };
  }
  now = () => this.time;
  random = () => 0.5;
  visible = () => this.shown;
  setTimeout = (f, ms) => {
    const timer = { f, at: this.time + ms };
    this.timers.push(timer);
    return timer;
  };
  clearTimeout = (timer) => { this.timers = this.timers.filter((t) => t !== timer); };
  fetch = async (url, options) => {
    this.asked.push(url);
    return this.answer(url, options);
  };
  async pass(ms) {
    const until = this.time + ms;
    for (;;) {
      const due = this.timers.filter((t) => t.at <= until).sort((a, b) => a.at - b.at)[0];
      if (!due) break;
      this.clearTimeout(due);
      this.time = Math.max(this.time, due.at);
      due.f();
      await settle();
    }
    this.time = until;
    await settle();
  }
  get socket() { return this.sockets.at(-1); }
}
const settle = () => new Promise((resolve) => setImmediate(resolve));

function listen(options = {}) {
  const tab = new Browser();
  const heard = [], states = [];
  const subscription = subscribe({
    base: "http://shop.test", session: "s", platform: tab,
    onMessage: (m) => heard.push(m), onState: (s, detail) => states.push([s, detail]), ...options,
  });
  return { tab, heard, states, subscription };
}

test("ids compare by their order, and only within an epoch", () => {
  assert.ok(isNewer(id(2), id(1)));
  assert.ok(!isNewer(id(1), id(1)));
  assert.ok(!isNewer(id(9), id(10)));
  assert.ok(isNewer(id(1, 7), id(500, 6)), "a history made anew is news");
  assert.ok(isNewer(id(1, 6), id(500, 7)), "and so is one that was restored");
  assert.ok(isNewer(id(1), undefined));
});

test("a replay follows the snapshot of its own id, once", () => {
  const inbox = new Inbox();
  assert.ok(inbox.take(message(5, "SUCCESS")));
  assert.ok(inbox.take(message(5, "SUCCESS", { type: "PAYMENT_COMPLETED", replay: true })));
  assert.ok(!inbox.take(message(5, "SUCCESS", { type: "PAYMENT_COMPLETED", replay: true })));
  const seen = new Inbox();
  assert.ok(seen.take(message(5, "SUCCESS", { type: "PAYMENT_COMPLETED" })));
  assert.ok(!seen.take(message(5, "SUCCESS", { type: "PAYMENT_COMPLETED", replay: true })), "it was heard when it happened");
});

test("a browser never waits long for a network that healed", () => {
  for (let attempt = 1; attempt < 1000; attempt++) {
    for (const random of [0, 0.5, 0.999]) {
      const ms = retryDelay(attempt, 1006, random);
      assert.ok(ms >= 50 && ms <= 5000, `${attempt}: ${ms}`);
    }
  }
  assert.ok(retryDelay(1, 1006, 0) !== retryDelay(1, 1006, 0.9), "not all browsers together");
  assert.ok(retryDelay(1, 1013, 0) >= 5000, "an overloaded server is left alone");
});

test("addresses", () => {
  assert.deepEqual(addresses("https://shop.test/", "a b"), {
    websocket: "wss://shop.test/sessions/a%20b/websocket",
    sse: "https://shop.test/sessions/a%20b/events",
    probe: "https://shop.test/sessions/a%20b",
  });
  assert.equal(addresses("http://shop.test", undefined).websocket, "ws://shop.test/events");
});

test("a lost connection is made again and goes on after the last message", async () => {
  const { tab, heard, states } = listen();
  assert.equal(tab.socket.url, "ws://shop.test/sessions/s/websocket");
  tab.socket.open();
  tab.socket.say(message(3));
  tab.socket.end(1006);
  assert.equal(states.at(-1)[0], "stale");
  await tab.pass(300);
  assert.equal(tab.socket.url, `ws://shop.test/sessions/s/websocket?after=${id(3)}`);
  tab.socket.open();
  assert.equal(states.at(-1)[0], "live");
  assert.equal(states.at(-1)[1].resumed, true);
  tab.socket.say(message(3));
  tab.socket.say(message(4, "SUCCESS"));
  assert.deepEqual(heard.map((m) => m.id), [id(3), id(4)]);
});

test("what an older connection still says is not heard", async () => {
  const { tab, heard } = listen();
  const old = tab.socket;
  old.open();
  old.end(1012);
  await tab.pass(300);
  tab.socket.open();
  old.say(message(9));
  old.end(1006);
  assert.equal(tab.sockets.length, 2);
  assert.deepEqual(heard, []);
});

test("a server that will not have us is not asked again", async () => {
  for (const code of [4400, 4401, 4403, 4404]) {
    assert.ok(permanent(code));
    const { tab, states, subscription } = listen();
    tab.socket.open();
    tab.socket.end(code, "no");
    assert.equal(subscription.state, "closed");
    assert.equal(states.at(-1)[1].code, code);
    await tab.pass(60_000);
    assert.equal(tab.sockets.length, 1);
    assert.equal(tab.timers.length, 0, "nothing is left running");
  }
  assert.ok(!permanent(1000) && !permanent(1006) && !permanent(4408));
});

test("where no WebSocket ever opens, an EventSource takes its place", async () => {
  const { tab, heard, states, subscription } = listen();
  tab.socket.end(1006);
  await tab.pass(300);
  await tab.pass(5000); // the second is never answered at all
  await tab.pass(600);
  assert.equal(tab.sources.length, 1);
  assert.equal(tab.sources[0].url, "http://shop.test/sessions/s/events");
  tab.sources[0].onopen();
  assert.equal(states.at(-1)[0], "live");
  assert.equal(subscription.transport, "sse");
  tab.sources[0].say("PAYMENT_UPDATE", message(1));
  tab.sources[0].say("message", message(2));
  assert.equal(heard.length, 2);
});

test("an EventSource that is refused says why", async () => {
  const tab = new Browser();
  tab.WebSocket = undefined;
  tab.answer = () => new Response("", { status: 404 });
  const subscription = subscribe({ base: "http://shop.test", session: "s", platform: tab });
  tab.sources[0].readyState = 2;
  tab.sources[0].onerror();
  await settle();
  assert.equal(subscription.state, "closed");
});

test("a silent socket is found out: nobody answers", async () => {
  const { tab, subscription } = listen();
  tab.socket.open();
  tab.answer = () => { throw new TypeError("no network"); };
  await tab.pass(22_000);
  assert.equal(tab.asked[0], "http://shop.test/sessions/s");
  assert.ok(tab.sockets.length > 1);
  assert.equal(subscription.state, "stale");
});

test("a silent socket is found out: the server knows of more than it sent", async () => {
  const { tab, subscription } = listen();
  tab.socket.open();
  tab.socket.say(message(1));
  tab.answer = () => Response.json(message(2, "SUCCESS"));
  await tab.pass(20_500);
  await tab.pass(4_000);
  assert.equal(tab.sockets.length, 2);
  tab.socket.open();
  await tab.pass(60_000);
  assert.equal(tab.sockets.length, 2, "what a new connection does not bring either is no reason for a third");
  assert.equal(subscription.state, "live");
});

test("a silence in which nothing happened costs one question and no connection", async () => {
  const { tab, subscription } = listen();
  tab.socket.open();
  tab.socket.say(message(1));
  tab.answer = () => Response.json(message(1));
  await tab.pass(90_000);
  assert.equal(tab.sockets.length, 1);
  assert.ok(tab.asked.length >= 3 && tab.asked.length <= 5, `${tab.asked.length}`);
  assert.ok(tab.now() - subscription.lastHeard < 25_000);
  tab.shown = false;
  const before = tab.asked.length;
  await tab.pass(90_000);
  assert.equal(tab.asked.length, before, "a page that nobody sees asks nothing");
});

test("coming online, or waking from sleep, connects at once", async () => {
  const { tab } = listen();
  tab.socket.open();
  tab.window.dispatchEvent(new Event("online"));
  assert.equal(tab.sockets.length, 2);
  tab.socket.open();
  tab.time += 3_600_000;
  await tab.pass(3_000);
  assert.equal(tab.sockets.length, 3);
});

test("a page that is looked at again does not wait for its turn", async () => {
  const { tab } = listen();
  for (let i = 0; i < 5; i++) {
    tab.socket.end(1006);
    tab.sources.at(-1)?.onerror?.();
    await tab.pass(600);
  }
  const before = tab.sockets.length + tab.sources.length;
  tab.socket.end(1006);
  tab.sources.at(-1)?.onerror?.();
  await settle();
  tab.document.dispatchEvent(new Event("visibilitychange"));
  assert.equal(tab.sockets.length + tab.sources.length, before + 1);
});

test("a listener that throws does not end the subscription", () => {
  const said = [];
  const quiet = console.error;
  console.error = (...words) => said.push(words);
  try {
    const { tab, subscription } = listen({ onMessage: () => { throw new Error("a bug in the page"); } });
    tab.socket.open();
    tab.socket.say(message(1));
    assert.equal(subscription.state, "live");
    assert.equal(subscription.cursor, id(1));
    assert.equal(said.length, 1);
  } finally {
    console.error = quiet;
  }
});

test("close is the end", async () => {
  const { tab, subscription, heard } = listen();
  tab.socket.open();
  subscription.close();
  tab.socket.say(message(1));
  tab.window.dispatchEvent(new Event("online"));
  await tab.pass(60_000);
  assert.equal(tab.sockets.length, 1);
  assert.ok(tab.socket.closed);
  assert.deepEqual(heard, []);
  assert.equal(subscription.state, "closed");
});

const paid = (attempt) => ({ status: "SUCCESS", paymentId: `p${attempt}`, attempt });
const of = (status, attempt) => ({ status, paymentId: `p${attempt}`, attempt });

test("money is never unsaid", () => {
  const present = new Present();
  present.take(of("PENDING", 1));
  present.take(paid(1));
  assert.ok(!present.take(of("FAILED", 1)));
  assert.ok(!present.take(of("PENDING", 1)), "an answer that the news overtook");
  assert.equal(present.data.status, "SUCCESS");
});

test("a receipt learnt later is added", () => {
  const present = new Present();
  present.take(paid(1));
  present.take({ ...paid(1), mpesaReceiptNumber: "SFF6XYZ123" });
  present.take(paid(1));
  assert.equal(present.data.mpesaReceiptNumber, "SFF6XYZ123");
});

test("an older attempt speaks again only to say that it was paid", () => {
  const present = new Present();
  present.take(of("PENDING", 1));
  present.take(of("PENDING", 2));
  assert.ok(!present.take(of("FAILED", 1), { type: "PAYMENT_UPDATE" }));
  assert.ok(present.take(paid(1), { type: "PAYMENT_COMPLETED" }));
  assert.ok(!present.take(of("UNKNOWN", 2), { type: "PAYMENT_UPDATE" }));
  assert.equal(present.data.paymentId, "p1");
});

test("after a payment the same customer may pay again", () => {
  const at = (seconds) => new Date(1_800_000_000_000 + seconds * 1000).toISOString();
  const page = () => {
    const present = new Present();
    present.take({ ...paid(1), timestamp: at(0) }, { type: "PAYMENT_UPDATE", time: at(10) });
    return present;
  };
  const overtaken = page();
  assert.ok(!overtaken.take({ ...of("FAILED", 2), timestamp: at(5) }, { type: "PAYMENT_UPDATE", time: at(20) }), "it began before the first was paid");
  assert.ok(overtaken.take({ ...of("PENDING", 3), timestamp: at(30) }, { type: "STK_INITIATED", time: at(31) }));

  const elsewhere = page();
  assert.ok(elsewhere.take({ ...of("UNKNOWN", 2), timestamp: at(30) }, { type: "PAYMENT_UPDATE", time: at(31) }), "another tab's");

  const answered = page();
  answered.take({ ...of("UNKNOWN", 2), timestamp: at(5) }, { type: "PAYMENT_UPDATE", time: at(31) });
  assert.ok(answered.take({ ...of("UNKNOWN", 2), timestamp: at(5) }), "what this page asked for is what it shows");
});

test("a store made anew begins again", () => {
  const present = new Present();
  present.take(paid(7));
  assert.ok(present.take(of("PENDING", 1), { type: "PAYMENT_UPDATE", gap: true }));
  assert.equal(present.data.status, "PENDING");
  assert.ok(present.take(of("PENDING", 2), { type: "STK_INITIATED" }));
});

test("initiate answers the payment", async () => {
  let sent;
  const data = await initiate("http://shop.test/", "s 1", { phoneNumber: "0708", amount: 1, idempotencyKey: "k" }, {
    fetch: async (url, options) => {
      sent = [url, options.headers["Idempotency-Key"], JSON.parse(options.body)];
      return Response.json({ status: "PENDING", paymentId: "p" });
    },
  });
  assert.equal(data.paymentId, "p");
  assert.deepEqual(sent, ["http://shop.test/sessions/s%201/initiate", "k", { phoneNumber: "0708", amount: 1 }]);
});

test("initiate tells a problem from no answer", async () => {
  const live = initiate("http://shop.test", "s", {}, {
    fetch: async () => Response.json(
      { type: "https://hodi.test/problems/prompt-live", title: "t", detail: "d" },
      { status: 409, headers: { "Retry-After": "42" } },
    ),
  });
  await assert.rejects(live, (e) => e instanceof HodiError && e.status === 409 && e.kind === "prompt-live" && e.retryAfter === 42 && e.message === "d");
  const silent = initiate("http://shop.test", "s", {}, { fetch: async () => { throw new TypeError("fetch failed"); } });
  await assert.rejects(silent, (e) => e instanceof HodiError && e.status === 0);
});
