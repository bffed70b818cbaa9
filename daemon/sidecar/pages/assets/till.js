// The till: what a cashier sees from two metres away. The payment that changed last is the biggest thing on it.
//
// It lists today's payments, then follows the history from where the list ends, so nothing falls between the two. What
// it shows is never older than it says: the moment it is not being kept up to date, it says so.

import { subscribe } from "/client.js";
import { Sale } from "./ask.js";
import { Entry } from "./enter.js";
import { ago, clock, date, day, midnight, money, phone, showReceipt, spelled } from "./format.js";
import { missing } from "./gap.js";
import { Ledger } from "./ledger.js";
import { mark, shapeOf } from "./marks.js";
import { choose as chooseLanguage, chosen, say, whole } from "./words.js";

const at = (id) => document.getElementById(id);
// The server is asked after when it has been silent for `probe`; a till that has heard nothing for `doubt` is not live.
const probe = 8_000, doubt = 20_000;
const rowsShown = 200;
const askStatus = 30_000;
const askSoon = 5000; // while the sidecar has no word from its edge

let lang = chosen();
const word = (key, facts) => say(lang, key, facts);

let status = {}; // of the sidecar
const ledger = new Ledger((data) => {
  const known = status.shortcodes?.find((s) => s.number === data.shortcode);
  return data.environment ?? known?.environment ?? (status.dev ? "sandbox" : "");
});

// A device that is not let in asks for a code in place of showing payments.
const entrance = new Entry(word, () => {
  entrance.close();
  updates?.close();
  updates = undefined;
  link = "connecting";
  refused = false;
  load();
});

const sale = new Sale(word, () => lang, () => load()); // which finds out why

let updates; // the subscription, once there is a list to go on from
let link = "connecting";
let refused = false;
let loaded = false;
let loadFailed = false;
let today = day(Date.now());
let found; // by a search further back
let query = "";
let searchNote = "";

// ---- what is known

// The day's list says up to which event it knows; the subscription goes on from there.
async function load() {
  try {
    status = (await get("/till/status").catch((error) => {
      if (error.status === 401) throw error;
    })) ?? status;
    let after, head;
    do {
      const since = ledger.messages;
      // A payment of a few minutes before midnight may have been paid after it.
      const from = new Date(midnight(today) - 600_000).toISOString();
      const page = await get(`/payments?limit=500&from=${encodeURIComponent(from)}${after ? `&after=${encodeURIComponent(after)}` : ""}`);
      head ??= page.head;
      for (const data of page.payments) ledger.list(data, since);
      after = page.payments.length ? page.next : undefined;
    } while (after);
    loaded = true;
    loadFailed = false;
    if (!updates) follow(head);
  } catch (error) {
    if (error.status === 401) entrance.open(loaded);
    if (error.status === 401 || error.status === 403) refused = true;
    loadFailed = true;
    if (!refused) setTimeout(load, 1000 + 1000 * Math.random());
  }
  show();
}

async function get(url, body) {
  const abort = new AbortController();
  const timer = setTimeout(() => abort.abort(), 10_000);
  try {
    const response = await fetch(url, {
      cache: "no-store", signal: abort.signal,
      ...(body && { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) }),
    });
    if (!response.ok) throw Object.assign(new Error(url), { status: response.status });
    return await response.json();
  } finally {
    clearTimeout(timer);
  }
}

function follow(head) {
  updates = subscribe({
    base: location.origin,
    all: true,
    after: head,
    probe,
    onMessage(message) {
      if (message.gap) load();
      const entry = ledger.hear(message);
      if (!entry) return;
      show();
      announce(entry.data);
      if (entry.data.status === "SUCCESS" && message.type === "PAYMENT_COMPLETED") chime();
    },
    onState(state, { resumed, code }) {
      link = state;
      if (state === "closed" && code >= 4400) refused = true;
      if (state === "closed" && code === 4401) entrance.open(loaded);
      // Went on without a place to go on from: the list knows what was missed.
      if (state === "live" && !resumed) load();
      show();
    },
  });
}

// ---- what is shown

function show() {
  const entering = !at("enter").hidden;
  at("newest").hidden = at("day").hidden = at("sell").hidden = at("sound").hidden = entering;
  if (entering) sale.close();
  else sale.show();
  if (entering) entrance.show();
  freshness();
  gap();
  newest();
  totals();
  rows();
}

let fresh = { state: "", since: 0, before: "", told: false };

function freshness() {
  const quiet = updates ? Date.now() - updates.lastHeard : Infinity;
  let state = refused ? "closed" : link;
  if (state === "live" && quiet > doubt) state = "stale";
  const cut = state === "live" && status.noWordSince; // this till hears the sidecar, and the sidecar no edge
  if (cut) state = "stale";
  const texts = {
    live: word("fresh.live"),
    connecting: loadFailed ? word("fresh.never") : word("fresh.connecting"),
    stale: cut ? word("fresh.edge", { time: clock(status.noWordSince) }) : updates?.lastHeard ? word("fresh.stale", { time: ago(quiet, lang) }) : word("fresh.never"),
    closed: word("fresh.closed"),
  };
  if (at("fresh").dataset.state !== state) at("fresh").dataset.state = state;
  if (document.body.dataset.fresh !== state) document.body.dataset.fresh = state;
  if (at("fresh-text").textContent !== texts[state]) at("fresh-text").textContent = texts[state];
  // The words count seconds, so they are told to the ear once, and not at all if it was only a moment.
  if (state !== fresh.state) fresh = { state, since: Date.now(), before: fresh.told ? fresh.state : fresh.before, told: false };
  if (!fresh.told && fresh.before !== "" && Date.now() - fresh.since > 1500) {
    fresh.told = true;
    if (fresh.before !== state) at("announce").textContent = texts[state];
  } else if (fresh.before === "" && state === "live") {
    fresh.told = true;
  }
}

// What never came: the sidecar tells of it in its status, which is asked for now and then.
function gap() {
  const told = missing(status.gaps, seenGap(), Date.now());
  if (told) {
    const to = Math.ceil(Date.parse(told.to) / 60_000) * 60_000; // to the whole minute behind it, as `from` is to the one before
    const dated = (time) => `${date(time, lang)}, ${clock(time)}`;
    const until = told.from && day(told.from) === day(to) ? clock(to) : dated(to);
    const text = [told.from ? word("gap.between", { from: dated(told.from), to: until }) : word("gap.until", { to: until }), word("gap.do")].join(" ");
    if (at("gap-text").textContent !== text) at("gap-text").textContent = text;
    if (at("gap").hidden) at("announce").textContent = `${word("gap.title")}. ${text}`;
  }
  at("gap").hidden = !told || !at("enter").hidden;
}

let gapSeen = ""; // when the newest gap that somebody has looked after was found

function seenGap() {
  try {
    return localStorage.getItem("hodi.gap") ?? gapSeen;
  } catch {
    return gapSeen; // a browser may forbid storage
  }
}

at("gap-seen").addEventListener("click", () => {
  gapSeen = status.gaps[status.gaps.length - 1].found;
  try {
    localStorage.setItem("hodi.gap", gapSeen);
  } catch {
    // Then it is seen for as long as the page lives.
  }
  gap();
});

async function look() {
  if (!refused) {
    status = (await get("/till/status").catch(() => undefined)) ?? status;
    gap();
    freshness();
  }
  setTimeout(look, status.noWordSince ? askSoon : askStatus);
}
setTimeout(look, askStatus);

let newestShown = "";

function newest() {
  const box = at("newest");
  const entry = ledger.newest;
  const old = entry && day(entry.at) !== today;
  if (!entry) {
    const kind = refused ? "refused" : loaded ? "empty" : "loading";
    if (newestShown !== kind) {
      newestShown = kind;
      box.dataset.status = "";
      delete box.dataset.doubt;
      box.replaceChildren(at("empty-view").content.cloneNode(true));
      part(box, "mark").replaceWith(mark("none"));
    }
    put(box, "word", { refused: word("fresh.closed"), empty: word("till.empty"), loading: word("till.loading") }[kind]);
    put(box, "reason", { refused: word("fresh.closed.text"), empty: word("till.empty.text"), loading: loadFailed ? word("till.loadfailed") : "" }[kind]);
    return;
  }
  const { data } = entry;
  const key = `${data.paymentId} ${data.status} ${data.doubt ?? ""}`;
  if (newestShown !== key) {
    newestShown = key;
    box.dataset.status = data.status;
    box.dataset.payment = data.paymentId;
    if (data.doubt) box.dataset.doubt = data.doubt;
    else delete box.dataset.doubt;
    box.replaceChildren(at("newest-view").content.cloneNode(true));
    part(box, "mark").replaceWith(mark(shapeOf[data.status]));
  }
  for (const element of box.querySelectorAll("[data-say]")) element.textContent = word(element.dataset.say);
  put(box, "word", word(`till.${data.status}`));
  put(box, "amount", data.amount == null ? "–" : money(data.amount));
  box.querySelector(".sum").classList.toggle("long", part(box, "amount").textContent.length > 7);
  put(box, "do", warning(data));
  part(box, "do").hidden = !warning(data);
  put(box, "reason", sentence(data));
  box.querySelector(".reason").hidden = !part(box, "do").textContent && !part(box, "reason").textContent;
  put(box, "reference", data.accountReference || word("till.noreference"));
  part(box, "reference").classList.toggle("absent", !data.accountReference);
  const receipt = data.mpesaReceiptNumber;
  if (receipt) showReceipt(part(box, "receipt"), receipt);
  put(box, "spelled", receipt ? spelled(receipt) : "");
  put(box, "phone", data.phoneNumber ? phone(data.phoneNumber) : "");
  const when = (data.status !== "PENDING" && data.completedAt) || data.timestamp;
  put(box, "time", when ? `${clock(when, true)}${old ? `, ${date(when, lang)}` : ""}` : "");
  for (const row of box.querySelectorAll("[data-row]")) row.hidden = part(row, row.dataset.row).textContent === "";
  put(box, "asof", updates?.lastHeard ? word("till.asof", { time: clock(updates.lastHeard, true) }) : "");
}

// What the cashier must not do, in a few words.
function warning(data) {
  if (["suspect", "large", "paid_twice"].includes(data.doubt)) return word(`till.${data.doubt}.do`);
  return data.status === "UNKNOWN" ? word("till.unknown.do") : "";
}

// What the cashier is to know and do. What is paid and checked needs no sentence. A payment without ids cannot be asked
// about: then nothing is promised.
function sentence(data) {
  const told = whole((lang === "sw" && data.reasonSw) || data.reason || "");
  if (data.doubt) return told;
  if (data.status === "SUCCESS") return data.amountChecked === false ? word("till.unchecked") : "";
  if (data.status === "PENDING") return word("till.pending.do");
  if (data.status === "UNKNOWN") return word(data.merchantRequestId || data.checkoutRequestId ? "till.unknown.asking" : "till.unknown.unasked");
  return told;
}

function totals() {
  const sums = ledger.totals(today);
  if (!sums.length) sums.push({ key: "", shortcode: "", environment: status.dev ? "sandbox" : "", cents: 0, count: 0 });
  const several = sums.length > 1;
  at("totals").replaceChildren(...(loaded ? sums : []).map(({ shortcode, environment, cents, count }) => {
    const total = document.createElement("p");
    total.className = "total";
    total.dataset.testid = "total";
    total.dataset.shortcode = shortcode;
    total.dataset.environment = environment;
    const label = [several && shortcode, environment === "sandbox" ? word("till.sandbox") : several && environment ? word("till.real") : ""];
    total.append(
      piece("kes", "KES"), " ", piece("amount", money(cents / 100)), " ",
      piece("count", [word(count === 1 ? "till.count.one" : "till.count", { n: count }), ...label.filter(Boolean)].join(" · ")),
    );
    total.title = word("till.total");
    return total;
  }));
}

function piece(name, text) {
  const element = document.createElement("span");
  element.className = name;
  element.textContent = text;
  return element;
}

const drawn = new Map(); // paymentId → its row

function rows() {
  let list = ledger.of(today);
  const wanted = plain(query);
  if (wanted) {
    list = list.filter(({ data }) => [data.mpesaReceiptNumber, data.accountReference, data.amount].some((fact) => plain(String(fact ?? "")).includes(wanted)));
    if (!list.length && found) list = found.map((data) => ({ data, at: Date.parse(data.timestamp) }));
  }
  const cut = list.slice(0, rowsShown);
  const wantedRows = cut.map(draw);
  const box = at("rows");
  // Rows are moved only where their order changed: whoever reads one must not lose it.
  wantedRows.forEach((row, i) => {
    if (box.children[i] !== row) box.insertBefore(row, box.children[i] ?? null);
  });
  while (box.children.length > wantedRows.length) box.lastChild.remove();
  for (const [id, row] of drawn) if (!row.isConnected) drawn.delete(id);

  const note = wanted && !cut.length ? searchNote || word("till.search.none") : loaded && loadFailed ? word("till.loadfailed") : "";
  if (at("note").textContent !== note) at("note").textContent = note;
  at("more").textContent = list.length > cut.length ? word("till.more", { n: list.length - cut.length }) : "";
}

function draw({ data, at: when }) {
  let row = drawn.get(data.paymentId);
  if (!row) {
    row = at("row-view").content.cloneNode(true).firstElementChild;
    row.dataset.payment = data.paymentId;
    drawn.set(data.paymentId, row);
  }
  if (row.dataset.status !== data.status) {
    row.dataset.status = data.status;
    const shape = mark(shapeOf[data.status]);
    (row.querySelector(".mark") ?? part(row, "mark")).replaceWith(shape);
  }
  const began = data.timestamp ?? when;
  put(row, "time", day(began) === today ? clock(began) : `${date(began, lang)} ${clock(began)}`);
  put(row, "word", word(`till.${data.status}`));
  put(row, "amount", data.amount == null ? "–" : `KES ${money(data.amount)}`);
  put(row, "reference", data.accountReference || word("till.noreference"));
  part(row, "reference").classList.toggle("absent", !data.accountReference);
  if (data.mpesaReceiptNumber) showReceipt(part(row, "receipt"), data.mpesaReceiptNumber);
  put(row, "phone", data.phoneNumber ? phone(data.phoneNumber) : "");
  put(row, "why", warning(data));
  return row;
}

function part(root, name) {
  return root.querySelector(`[data-part=${name}]`);
}

function put(root, name, text) {
  const element = part(root, name);
  if (element && element.textContent !== text) element.textContent = text;
}

function plain(text) {
  return text.toLowerCase().replace(/[\s,-]/g, "");
}

// Payments in quick succession are told one after another, by the reader's own queue; the newest is never cut off.
function announce(data) {
  const facts = [
    word(`till.${data.status}`), data.amount == null ? "" : `KES ${money(data.amount)}`, data.accountReference,
    data.mpesaReceiptNumber && spelled(data.mpesaReceiptNumber),
    warning(data), sentence(data),
  ];
  at("announce").textContent = facts.filter(Boolean).join(", ");
}

// ---- what the cashier does

let audio;

function chime() {
  if (at("sound").getAttribute("aria-pressed") !== "true" || !audio) return;
  [[523.25, 0], [783.99, 0.12]].forEach(([pitch, after]) => {
    const start = audio.currentTime + after;
    const tone = audio.createOscillator(), volume = audio.createGain();
    tone.frequency.value = pitch;
    volume.gain.setValueAtTime(0, start);
    volume.gain.linearRampToValueAtTime(0.12, start + 0.02);
    volume.gain.exponentialRampToValueAtTime(0.001, start + 0.5);
    tone.connect(volume).connect(audio.destination);
    tone.start(start);
    tone.stop(start + 0.55);
  });
}

at("sound").addEventListener("click", () => {
  const on = at("sound").getAttribute("aria-pressed") !== "true";
  at("sound").setAttribute("aria-pressed", String(on));
  translate();
  if (!on) return;
  audio ??= new AudioContext();
  audio.resume();
  chime();
});

at("lang").addEventListener("click", () => {
  lang = lang === "en" ? "sw" : "en";
  chooseLanguage(lang);
  translate();
  show();
});

at("search").addEventListener("input", () => {
  query = at("search").value;
  found = undefined;
  searchNote = "";
  rows();
});

at("find").addEventListener("submit", async (event) => {
  event.preventDefault();
  const receipt = query.replace(/\s/g, "").toUpperCase();
  if (!receipt || at("rows").children.length) return;
  try {
    const answer = await get("/payments/search", { receipt });
    found = answer.payments;
    searchNote = word("till.search.nowhere");
  } catch {
    searchNote = word("till.search.failed");
  }
  rows();
});

addEventListener("keydown", (event) => {
  if (event.key === "/" && document.activeElement !== at("search")) {
    event.preventDefault();
    at("search").focus();
  } else if (event.key === "Escape" && query) {
    at("search").value = query = "";
    found = undefined;
    rows();
  }
});

function translate() {
  document.documentElement.lang = lang;
  document.title = word("till.title");
  at("lang").textContent = word("lang.other");
  at("lang").lang = lang === "en" ? "sw" : "en";
  at("search").placeholder = word("till.search");
  at("sound").textContent = word(at("sound").getAttribute("aria-pressed") === "true" ? "till.sound.on" : "till.sound.off");
  for (const element of document.querySelectorAll("[data-say]")) element.textContent = word(element.dataset.say);
}

setInterval(() => {
  const now = day(Date.now());
  if (now !== today) {
    today = now;
    ledger.forget(today);
    load();
  }
  freshness();
}, 1000);
addEventListener("online", freshness);
addEventListener("offline", freshness);

at("gap-mark").replaceWith(mark(shapeOf.UNKNOWN));
translate();
show();
load();
