// What the pages know without a browser: their words, how they write, and what the till makes of its payments.
import { test } from "node:test";
import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import { missing } from "../assets/gap.js";
import { Ledger } from "../assets/ledger.js";
import { ago, clock, day, groups, isPhone, midnight, money, phone } from "../assets/format.js";
import { say, words } from "../assets/words.js";

const nbsp = "\u00a0";

test("every sentence is there in both languages, with the same facts in it", () => {
  assert.deepEqual(Object.keys(words.sw).sort(), Object.keys(words.en).sort());
  for (const [key, text] of Object.entries(words.en)) {
    const facts = (t) => (t.match(/\{\w+\}/g) ?? []).sort().join();
    assert.equal(facts(words.sw[key]), facts(text), key);
    assert.doesNotMatch(text + words.sw[key], /!|\p{Extended_Pictographic}/u, key);
    assert.doesNotMatch(text, /callback|webhook|timeout|server|session/i, `${key} is jargon`);
  }
});

test("every word that a page asks for is in the table", () => {
  const folder = new URL("../assets/", import.meta.url), pages = new URL("../", import.meta.url);
  const sources = [...readdirSync(folder).filter((f) => /^(checkout|till)\.js$/.test(f)).map((f) => new URL(f, folder)), new URL("checkout.html", pages), new URL("till.html", pages)];
  for (const source of sources) {
    const text = readFileSync(source, "utf8");
    for (const [, key] of text.matchAll(/(?:word\(|data-say=)"([a-z]+\.[\w.]+|payee|sandbox)"/g)) {
      assert.ok(key in words.en, `${source.pathname}: ${key}`);
    }
  }
});

test("a till tells of answers that never came, all of them in one, until they were looked after or a week has passed", () => {
  const at = (text) => `2026-11-${text}:00.000Z`;
  const first = { from: at("20T10:03"), to: at("20T10:07"), found: at("20T11:00") };
  const second = { from: at("21T08:00"), to: at("21T09:30"), found: at("21T09:40"), callbacks: 3 };
  const now = Date.parse(at("21T12:00"));
  assert.equal(missing(undefined, "", now), undefined);
  assert.equal(missing([], "", now), undefined);
  assert.deepEqual(missing([first], "", now), { from: first.from, to: first.to });
  assert.deepEqual(missing([first, second], "", now), { from: first.from, to: second.to });
  assert.deepEqual(missing([second, first], "", now), { from: first.from, to: second.to });
  assert.deepEqual(missing([first, second], first.found, now), { from: second.from, to: second.to });
  assert.equal(missing([first, second], second.found, now), undefined);
  assert.deepEqual(missing([{ to: first.to, found: first.found }, second], "", now), { from: undefined, to: second.to });
  assert.deepEqual(missing([first, second], "", Date.parse(at("28T09:00"))), { from: second.from, to: second.to });
});

test("money, numbers and receipts are written as they are read", () => {
  assert.equal(money(1234), "1,234");
  assert.equal(money(249999.5), "249,999.50");
  assert.equal(phone("254708374149"), ["0708", "374", "149"].join(nbsp));
  assert.equal(phone("254708***149"), ["0708", "•••", "149"].join(nbsp));
  assert.equal(phone("***"), "***");
  assert.deepEqual(groups("SFF6XYZ123"), ["SFF", "6XY", "Z123"]);
  for (const number of ["0708 374 149", "+254708374149", "254-708-374-149", "0110000000"]) assert.ok(isPhone(number), number);
  for (const number of ["", "0708", "1234567890", "2547083741490", "07083741x9"]) assert.ok(!isPhone(number), number);
  assert.equal(ago(12_400, "en"), "12 s");
  assert.equal(ago(185_000, "sw"), "dak 3");
});

test("the day is Nairobi's", () => {
  assert.equal(day("2026-11-21T20:59:59.999Z"), "2026-11-21");
  assert.equal(day("2026-11-21T21:00:00.000Z"), "2026-11-22");
  assert.equal(new Date(midnight("2026-11-22")).toISOString(), "2026-11-21T21:00:00.000Z");
  assert.equal(clock("2026-11-21T21:05:00.000Z"), "00:05");
});

test("the word for M-Pesa is never broken across lines", () => {
  assert.match(say("en", "unknown.text"), /M-\u2060Pesa/);
});

const payment = (id, status, more = {}) => ({ paymentId: id, status, amount: 100, shortcode: "174379", timestamp: "2026-11-21T09:00:00.000Z", ...more });
const told = (data, time = "2026-11-21T09:00:10.000Z") => ({ type: "PAYMENT_UPDATE", time, data });
const today = "2026-11-21";

test("a payment is there once, however often and in whatever order the till is told of it", () => {
  const orders = [["list", "pending", "paid"], ["paid", "list", "pending"], ["pending", "paid", "list"], ["paid", "pending", "list", "paid"]];
  for (const order of orders) {
    const ledger = new Ledger();
    for (const step of order) {
      if (step === "list") ledger.list(payment("a", "PENDING"), ledger.messages);
      if (step === "pending") ledger.hear(told(payment("a", "PENDING")));
      if (step === "paid") ledger.hear(told(payment("a", "SUCCESS", { mpesaReceiptNumber: "SFF6XYZ123" })));
    }
    const entries = ledger.of(today);
    assert.equal(entries.length, 1, order.join());
    assert.equal(entries[0].data.status, "SUCCESS", order.join());
    assert.equal(ledger.totals(today)[0].cents, 10_000, order.join());
  }
});

test("a list that was asked for before a message does not overrule it", () => {
  const ledger = new Ledger();
  const asked = ledger.messages;
  ledger.hear(told(payment("a", "FAILED", { outcome: "wrong_pin" })));
  ledger.list(payment("a", "FAILED", { outcome: "cancelled" }), asked);
  assert.equal(ledger.of(today)[0].data.outcome, "wrong_pin");
});

test("only what was paid is summed, each number to itself, and practice money apart", () => {
  const ledger = new Ledger((d) => (d.shortcode === "174379" ? "sandbox" : "production"));
  ledger.hear(told(payment("a", "SUCCESS", { amount: 0.1 })));
  ledger.hear(told(payment("b", "SUCCESS", { amount: 0.2 })));
  ledger.hear(told(payment("c", "UNKNOWN", { amount: 500 })));
  ledger.hear(told(payment("d", "FAILED", { amount: 500 })));
  ledger.hear(told(payment("e", "SUCCESS", { amount: 70, shortcode: "600100" })));
  ledger.hear(told(payment("f", "PENDING", { shortcode: "600200" })));
  assert.deepEqual(ledger.totals(today).map(({ shortcode, environment, cents, count }) => [shortcode, environment, cents, count]), [
    ["600100", "production", 7000, 1], ["600200", "production", 0, 0], ["174379", "sandbox", 30, 2],
  ]);
});

test("the newest is what changed last, not what began last", () => {
  const ledger = new Ledger();
  ledger.hear(told(payment("a", "PENDING"), "2026-11-21T09:00:00.000Z"));
  ledger.hear(told(payment("b", "PENDING", { timestamp: "2026-11-21T09:01:00.000Z" }), "2026-11-21T09:01:00.000Z"));
  assert.equal(ledger.newest.data.paymentId, "b");
  ledger.hear(told(payment("a", "SUCCESS"), "2026-11-21T09:01:30.000Z"));
  assert.equal(ledger.newest.data.paymentId, "a");
  assert.deepEqual(ledger.of(today).map((e) => e.data.paymentId), ["b", "a"], "the list keeps its order");
});

test("money counts on the day on which it moved", () => {
  const ledger = new Ledger();
  ledger.hear(told(payment("a", "SUCCESS", { timestamp: "2026-11-20T20:59:50.000Z", completedAt: "2026-11-20T21:00:05.000Z" })));
  assert.equal(ledger.totals("2026-11-21")[0].cents, 10_000);
  assert.equal(ledger.totals("2026-11-20").length, 0);
  ledger.hear(told(payment("z", "PENDING"), "2026-11-21T10:00:00.000Z"));
  ledger.forget("2026-11-22");
  assert.equal(ledger.entries.size, 1, "a till that runs for years forgets what is over");
});
