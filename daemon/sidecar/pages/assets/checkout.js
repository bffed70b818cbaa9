// The checkout: one customer, one question or one answer at a time.
//
// What is on the screen follows from what is known: the session's present payment (from the subscription, and from what
// initiate answered), and where the customer is (asked, sending, blocked). choose() decides, show() draws.

import { HodiError, Present, initiate, newKey, subscribe } from "/client.js";
import { ago, clock, date, isPhone, money, phone, showReceipt, spelled } from "./format.js";
import { mark } from "./marks.js";
import { choose as chooseLanguage, chosen, say, whole } from "./words.js";

const session = decodeURIComponent(location.pathname.split("/")[2] ?? "");
const at = (id) => document.getElementById(id);
const loopback = /^(localhost|127\.\d+\.\d+\.\d+|\[::1\])$/.test(location.hostname);
// After so long a customer begins to wonder, and should be told that the wait is known of.
const slowAfter = 45_000;

let lang = chosen();
const word = (key, facts) => say(lang, key, facts);

const present = new Present();
/** @type {{amount: number|null, accountReference?: string, shortcode?: string, business?: string, dev?: boolean}|undefined} */
let about;
let ready = false; // the server has said what there is, or that there is nothing
let gone = false;
let asking = false; // the customer chose to pay again
let confirming = false; // and is asked whether that is safe
let again = false; // it is
let sending = false;
let held = ""; // the payment that stood in the way of another: its request is still open on the phone
let blockedUntil = 0;
let problem = ""; // a key of the words, or a sentence of the server's
let link = "connecting";
let skew = 0; // the server's clock less ours
const form = { amount: "", phone: "", reference: "" };
let lastPress = { request: "", key: "" };

// ---- what is known

async function learn() {
  const [told, snapshot] = await Promise.all([json(`/pay/${encodeURIComponent(session)}/about`), json(`/sessions/${encodeURIComponent(session)}`)]);
  if (snapshot.failed || told.failed) {
    setTimeout(learn, 1500);
    return;
  }
  if (snapshot.date) skew = Math.abs(snapshot.date - Date.now()) > 2000 ? snapshot.date - Date.now() : 0;
  if (snapshot.status === 404 || snapshot.status === 400) gone = true;
  const fixed = snapshot.body?.checkout ?? {};
  about = {
    amount: typeof fixed.amount === "number" ? fixed.amount : null,
    accountReference: fixed.accountReference,
    shortcode: fixed.number ?? fixed.shortcode,
    kind: fixed.kind,
    dev: loopback,
    ...told.body,
  };
  if (about.dev && about.amount == null) {
    const query = new URLSearchParams(location.search);
    form.amount ||= query.get("amount") ?? "100";
    form.reference ||= about.accountReference || (query.get("reference") ?? "ORDER123");
    form.phone ||= "0708 374 149";
  }
  form.reference ||= about.accountReference ?? "";
  if (about.amount != null) form.amount = String(about.amount);
  if (snapshot.body?.data?.status) present.take(snapshot.body.data, snapshot.body);
  ready = true;
  show();
}

async function json(url) {
  try {
    const response = await fetch(url, { cache: "no-store", headers: { Accept: "application/json" } });
    const type = response.headers.get("Content-Type") ?? "";
    const body = /json/.test(type) ? await response.json().catch(() => undefined) : undefined;
    return {
      failed: response.status >= 500,
      status: response.status,
      body: response.ok ? body : undefined,
      problem: response.ok ? undefined : body,
      date: Date.parse(response.headers.get("Date") ?? "") || 0,
    };
  } catch {
    return { failed: true };
  }
}

const updates = subscribe({
  base: location.origin,
  session,
  onMessage(message) {
    const before = present.data;
    if (!present.take(message.data, message)) return;
    const now = present.data;
    ready = true;
    // Another attempt, from this page or from another tab, or good news, is what the customer wants to see; that the old
    // attempt is a little more lost than before is not.
    if (now.paymentId !== before?.paymentId || now.status === "SUCCESS") {
      asking = confirming = again = sending = false;
      blockedUntil = 0;
      problem = "";
    }
    if (now.status === "FAILED") confirming = again = false;
    show();
  },
  onState(state, { code }) {
    link = state;
    if (state === "closed" && code >= 4400) gone = true;
    show();
  },
});

async function pay() {
  problem = "";
  const amount = sum();
  if (!payable(amount)) return complain("ask.amount.bad", "amount");
  if (!isPhone(form.phone)) return complain("ask.phone.bad", "phone");
  const request = { phoneNumber: form.phone.trim(), amount, accountReference: form.reference.trim() || undefined };
  if (again) request.again = true;
  const text = JSON.stringify(request);
  if (lastPress.request !== text) lastPress = { request: text, key: newKey() };
  sending = true;
  held = "";
  blockedUntil = 0;
  const before = present.data;
  show();
  try {
    const data = await initiate(location.origin, session, { ...request, idempotencyKey: lastPress.key });
    lastPress = { request: "", key: "" };
    // Asked to charge again, the shop answered with the payment that we were afraid of: nothing more was sent.
    if (request.again && data.paymentId === before?.paymentId) held = data.paymentId;
    present.take(data);
    asking = confirming = again = false;
  } catch (error) {
    if (!(error instanceof HodiError)) throw error;
    if (error.status !== 0) lastPress = { request: "", key: "" };
    refused(error);
  } finally {
    sending = false;
    show();
  }
}

function refused(error) {
  // News may have come while nobody answered: then that is the answer.
  if (!sending) return;
  asking = true;
  if (error.status === 409 && (error.kind === "prompt-live" || error.retryAfter)) {
    blockedUntil = Date.now() + (error.retryAfter ?? 30) * 1000;
  } else if (error.kind === "again-needed") {
    asking = again = false; // another tab's payment is not known; what we show of it is on its way
    learn();
  } else if (error.kind === "bad-phone") {
    problem = "ask.phone.bad";
  } else if (error.kind === "bad-amount") {
    problem = "ask.amount.bad";
  } else if (error.status === 429) {
    problem = "ask.enough";
  } else if (error.status === 410 || error.status === 404 || error.status === 401 || error.status === 403) {
    gone = true;
  } else if (error.status === 0 || error.status >= 500) {
    problem = error.status === 0 ? "ask.offline" : "ask.refused";
  } else {
    problem = "ask.refused";
  }
}

function sum() {
  return Number(form.amount.replace(/[,\s]/g, "")) || 0;
}

function payable(amount) {
  return Number.isInteger(amount) && amount >= 1 && amount <= 250_000;
}

// What stands in a field that nobody is writing in.
function written(name) {
  if (name === "amount" && payable(sum())) return money(sum());
  if (name === "phone" && isPhone(form.phone)) return phone(form.phone).replaceAll("\u00a0", " ");
  return form[name];
}

function complain(key, field) {
  problem = key;
  show();
  at(field)?.focus();
}

// ---- what is shown

/** One view, the state it stands for, and the shape beside it. */
function choose() {
  if (gone) return ["gone", "blocked", "none"];
  if (sending) return ["sending", "sending", "waiting"];
  if (blockedUntil) return ["blocked", "blocked", "blocked"];
  const data = present.data;
  if (confirming && data?.status === "UNKNOWN") return ["confirm", "unknown", "unknown"];
  if (!asking && data) {
    if (data.status === "PENDING") return ["waiting", "waiting", "waiting"];
    if (data.status === "SUCCESS") return ["paid", "paid", "paid"];
    if (data.status === "FAILED") return ["failed", "failed", "failed"];
    return ["unknown", "unknown", "unknown"];
  }
  if (!ready) return ["loading", "idle", "none"];
  return [form.amount === "" || form.step === "amount" ? "amount" : "ask", "idle", undefined];
}

const stage = at("stage");
let shown = "";
const opened = Date.now();

function show() {
  const [view, state, shape] = choose();
  if (form.amount === "" && view === "amount") form.step = "amount";
  if (view !== shown) {
    const held = document.activeElement;
    const had = stage.contains(held) || shown === "";
    stage.replaceChildren(at(`view-${view}`).content.cloneNode(true));
    if (shape) stage.prepend(mark(shape));
    wire();
    const first = shown === "";
    shown = view;
    stage.dataset.view = view;
    stage.dataset.state = state;
    translate();
    fill(view);
    bill(view);
    // Whoever used the keyboard here goes on from here. Nobody is sent to a field on a phone at first sight: its
    // keyboard would cover the page.
    const field = stage.querySelector("input");
    if (field && (!first || matchMedia("(pointer: fine)").matches) && window === window.top) field.focus();
    else if (!first && had) stage.querySelector("h1")?.focus({ preventScroll: true });
    if (!first && !field) announce();
  } else {
    stage.dataset.state = state;
    fill(view);
    bill(view);
  }
  foot();
}

function translate() {
  document.documentElement.lang = lang;
  at("lang").textContent = word("lang.other");
  at("lang").lang = lang === "en" ? "sw" : "en";
  for (const element of stage.querySelectorAll("[data-say]")) element.textContent = word(element.dataset.say);
}

function fill(view) {
  const data = present.data ?? {};
  const number = data.phoneNumber ? phone(data.phoneNumber) : "";
  const set = (name, text) => {
    const element = part(name);
    if (element && element.textContent !== text) element.textContent = text;
  };
  switch (view) {
    case "loading":
      set("text", word(Date.now() - opened > 4000 ? "loading.slow" : "loading.text"));
      break;
    case "amount":
    case "ask":
      for (const name of ["amount", "phone"]) {
        const field = stage.querySelector(`[name=${name}]`);
        if (field && document.activeElement !== field && field.value !== written(name)) field.value = written(name);
      }
      set("pay", word("ask.pay", { amount: money(sum()) }));
      set("note", problem && word(problem));
      stage.querySelector("form").dataset.bad = problem ? "yes" : "no";
      for (const field of stage.querySelectorAll("input")) field.setAttribute("aria-invalid", problem === `ask.${field.name}.bad` ? "true" : "false");
      break;
    case "sending":
      set("text", word("sending.text", { phone: phone(form.phone) }));
      break;
    case "waiting": {
      set("text", number ? word("waiting.text", { phone: number }) : word("waiting.text.nophone"));
      const waited = Date.now() + skew - (Date.parse(data.timestamp) || Date.now());
      const long = waited > slowAfter;
      set("elapsed", long ? word("waiting.long") : word("waiting.sent", { time: ago(waited, lang) }));
      if (long && part("elapsed").dataset.long !== "yes") {
        part("elapsed").dataset.long = "yes";
        tell(word("waiting.long"));
      }
      break;
    }
    case "paid": {
      const receipt = data.mpesaReceiptNumber;
      if (receipt && part("receipt").classList.contains("coming")) tell(`${word("paid.receipt")}: ${spelled(receipt)}`);
      if (receipt) {
        showReceipt(part("receipt"), receipt);
        part("receipt").classList.remove("coming");
      } else {
        set("receipt", word("paid.receipt.coming"));
        part("receipt").classList.add("coming");
      }
      set("spelled", receipt ? spelled(receipt) : word("paid.receipt.coming"));
      const when = data.completedAt ?? data.timestamp;
      set("time", when ? `${clock(when)}, ${date(when, lang)}` : "");
      part("more").hidden = !(about?.dev && about.amount == null);
      break;
    }
    case "failed":
      set("reason", why(data));
      break;
    case "unknown":
      // A payment without ids cannot be asked about: then nothing is promised.
      set("reason", word(held && held === data.paymentId ? "unknown.held" : data.merchantRequestId || data.checkoutRequestId ? "unknown.text" : "unknown.unasked"));
      break;
    case "blocked": {
      const left = blockedUntil - Date.now();
      set("when", left > 500 ? word("blocked.when", { time: ago(left, lang) }) : word("blocked.now"));
      part("again").className = left > 500 ? "plain" : "primary";
      break;
    }
  }
  const titles = { paid: "paid.title", waiting: "waiting.title", failed: "failed.title", unknown: "unknown.title" };
  document.title = titles[view] ? `${word(titles[view])} · KES ${money(data.amount ?? 0)}` : about?.business || word("payee");
}

// The bill stays where it is through every state: what is paid, to whom, for what. Where the page may choose the amount,
// the amount in the bill is the field.
function bill(view) {
  const data = present.data;
  const chooses = about !== undefined && about.amount == null;
  const editing = view === "ask" && chooses;
  const amount = ["ask", "amount", "sending", "blocked", "loading"].includes(view)
    ? sum()
    : data?.amount ?? sum();
  at("sum").hidden = view === "amount" || view === "gone" || (amount === 0 && !editing);
  const place = at("sum-place");
  if (editing) {
    if (!place.querySelector("input")) {
      const field = inlineField("amount", 9);
      field.inputMode = "numeric";
      place.replaceChildren(field);
    }
    place.querySelector("input").setAttribute("aria-label", word("ask.amount.label"));
    place.querySelector("input").setAttribute("aria-invalid", String(problem === "ask.amount.bad"));
  } else if (place.textContent !== money(amount) || place.querySelector("input")) {
    const text = document.createElement("span");
    text.dataset.testid = "amount";
    text.textContent = money(amount);
    place.replaceChildren(text);
  }
  at("payee").textContent = about?.business || word("payee");
  const to = data?.shortcode ?? about?.shortcode;
  const line = [to && word(about?.kind === "till" ? "to.till" : "to.paybill", { shortcode: to })];
  if (editing && about.dev) {
    const field = at("reference") ?? inlineField("reference", 20);
    field.setAttribute("aria-label", word("ask.reference"));
    if (!field.isConnected) at("for").replaceChildren(field);
    line.unshift(field);
  } else {
    line.unshift(data && view !== "ask" ? data.accountReference : form.reference);
  }
  const wanted = view === "gone" ? [] : line.filter(Boolean);
  if (wanted[0] instanceof Element) {
    for (const extra of [...at("for").children].slice(1)) extra.remove();
    at("for").append(...wanted.slice(1).map(span));
  } else {
    at("for").replaceChildren(...wanted.map(span));
  }
}

function span(text) {
  const element = document.createElement("span");
  element.textContent = text;
  return element;
}

function inlineField(name, longest) {
  const field = document.createElement("input");
  Object.assign(field, { id: name, name, autocomplete: "off", maxLength: longest, value: written(name) });
  field.dataset.testid = name;
  field.className = "inline-field";
  const fit = () => (field.size = Math.max(2, field.value.length));
  field.addEventListener("input", () => {
    form[name] = field.value;
    problem = "";
    fit();
    show();
  });
  field.addEventListener("blur", () => {
    field.value = written(name);
    fit();
  });
  field.addEventListener("keydown", (event) => event.key === "Enter" && stage.querySelector("form")?.requestSubmit());
  fit();
  return field;
}

function foot() {
  const line = link === "stale" || (link === "connecting" && ready) ? (navigator.onLine === false ? "link.offline" : "link.stale") : "";
  const text = line && word(line);
  // A connection that is back in half a second is nobody's business.
  clearTimeout(foot.timer);
  if (!text) at("link").textContent = "";
  else if (at("link").textContent) at("link").textContent = text;
  else foot.timer = setTimeout(() => (at("link").textContent = text), 1200);
  at("practice").hidden = !about?.dev;
  at("practice").textContent = word("sandbox");
}

// Each change is told once: a title that has the focus is read for that, so it is left out here.
function announce() {
  const title = stage.querySelector("h1"), data = present.data;
  const facts = [
    document.activeElement !== title && title.textContent,
    shown === "paid" && data?.amount != null && `KES ${money(data.amount)}`,
    ...[...stage.querySelectorAll(".text, .unseen, [data-long=yes]")].map((e) => e.textContent),
  ];
  tell(facts.filter(Boolean).join(". ").replaceAll("..", "."));
}

function tell(text) {
  at("announce").textContent = text;
}

// ---- what the customer does

function wire() {
  stage.querySelector("form")?.addEventListener("submit", (event) => {
    event.preventDefault();
    if (shown === "amount") {
      if (!payable(sum())) return complain("ask.amount.bad", "amount");
      problem = "";
      form.step = "phone";
      show();
    } else {
      pay();
    }
  });
  for (const field of stage.querySelectorAll("input")) {
    field.addEventListener("input", () => {
      form[field.name] = field.value;
      if (field.name === "amount") form.step = "amount";
      problem = "";
      show();
    });
  }
  part("more")?.addEventListener("click", askAgain);
  part("again")?.addEventListener("click", () => {
    if (shown === "blocked") {
      pay();
    } else if (shown === "unknown") {
      confirming = true;
      show();
    } else {
      askAgain();
    }
  });
  part("other")?.addEventListener("click", () => {
    blockedUntil = 0;
    askAgain();
  });
  part("wait")?.addEventListener("click", () => {
    confirming = false;
    show();
  });
  if (shown !== "ask" && part("pay")?.type === "button") {
    part("pay").addEventListener("click", () => {
      again = true;
      confirming = false;
      askAgain();
    });
  }
}

function askAgain() {
  asking = true;
  problem = "";
  const data = present.data;
  if (form.amount === "" && data?.amount) form.amount = String(data.amount);
  if (form.reference === "" && data?.accountReference) form.reference = data.accountReference;
  form.step = "phone";
  show();
}

at("lang").addEventListener("click", () => {
  lang = lang === "en" ? "sw" : "en";
  chooseLanguage(lang);
  translate();
  show();
});

function part(name) {
  return stage.querySelector(`[data-part=${name}]`);
}

function reason(data) {
  return whole((lang === "sw" && data.reasonSw) || data.reason || "");
}

// To the customer in the customer's words; an outcome that is newer than this page, in the words that came with it.
function why(data) {
  const key = `why.${data.outcome}`;
  return word(key) === key ? reason(data) || data.resultDesc || "" : word(key);
}

setInterval(() => {
  if (["waiting", "blocked", "loading"].includes(shown)) show();
}, 1000);
addEventListener("offline", () => show());
addEventListener("online", () => show());
addEventListener("pagehide", (event) => event.persisted || updates.close());

show();
learn();
