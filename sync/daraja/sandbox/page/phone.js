// The pretend phone: it draws the state that the sandbox sends, and says what the person holding it does.
import { locale, switchLanguage, translate, word } from "./words.js";
import { element, kindOf, makeDrawer, mark, money, oddities, sentence } from "./drawer.js";

const at = (id) => document.getElementById(id);
const mine = normalise(decodeURIComponent(location.hash.slice(1))); // #254708374149: this one phone; otherwise every phone
const wide = matchMedia("(min-width: 720px)");

let state = null; // as the sandbox last told it
let online = false;
let skew = 0; // the sandbox's clock minus this one's
let prompt = null; // the request on the screen
let pin = "";
let sending = false;
let looking = ""; // a request that was left unanswered and is looked at after all
let known = null; // ids of the messages drawn

const drawer = makeDrawer(at("drawer-body"), {
  answer: (outcome) => prompt && answer(outcome),
  behave: (change) => post("/phone/behaviour", mine ? { phone: mine, ...change } : change).catch(() => draw()),
  resend: (id) => post("/phone/resend", { id }).catch(() => {}),
  now: () => Date.now() + skew,
});

function normalise(text) {
  const digits = text.replace(/\D/g, "").replace(/^0(?=[71]\d{8}$)/, "254");
  return /^254[71]\d{8}$/.test(digits) ? digits : "";
}

const spoken = (phone) => phone.replace(/^254(\d{3})(\d{3})(\d{3})$/, "0$1 $2 $3");

// The sandbox.

async function post(path, body) {
  const response = await fetch(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
  const result = await response.json();
  if (!response.ok) throw Object.assign(new Error(result.detail), { kind: result.type });
  return result;
}

function connect() {
  const events = new EventSource("/phone/events");
  events.addEventListener("state", (e) => {
    state = JSON.parse(e.data);
    skew = Date.parse(state.time) - Date.now();
    online = true;
    draw();
  });
  events.onerror = () => {
    online = false;
    draw();
    if (events.readyState === EventSource.CLOSED) setTimeout(connect, 1000);
  };
}

async function answer(outcome, digits) {
  if (!prompt || sending) return;
  const body = { id: prompt.id, outcome };
  if (digits) body.pin = digits;
  sending = true;
  at("trouble").textContent = "";
  draw();
  try {
    await post("/phone/answer", body);
    if (looking === body.id) looking = "";
  } catch (error) {
    at("trouble").textContent = word(error.kind === "no-prompt" ? "gone" : "unreachable");
  }
  sending = false;
  if (outcome === "approve") pin = "";
  draw();
}

// Drawing.

function draw() {
  const requests = (list) => (list ?? []).filter((r) => !mine || r.phone === mine);
  const behaviour = state && ((mine && state.behaviours?.[mine]) || state.behaviour);
  const live = requests(state?.prompts);
  const pending = requests(state?.pending);
  const asking = live.filter((r) => !r.ignored || r.id === looking);

  // A request that is being answered is not pushed aside by a newer one.
  const shown = asking.find((r) => r.id === prompt?.id) ?? asking[0] ?? null;
  if (shown?.id !== prompt?.id) {
    pin = "";
    at("trouble").textContent = "";
  }
  const arrived = shown && shown.id !== prompt?.id;
  const left = prompt && !shown;
  prompt = shown;

  const dark = state && !prompt && (behaviour.auto === "off" || pending.some((r) => r.stage === "off"));
  const name = !state ? "connecting" : !online ? "offline" : prompt ? (sending ? "sending" : "prompt") : dark ? "off" : "idle";
  at("phone").dataset.state = name;

  tell("waiting-text", word(!state ? "connecting" : !online ? "offline" : pending.some((r) => r.stage === "sending") ? "coming" : "waiting"));
  at("veil").hidden = !prompt;
  at("off").hidden = !dark;
  at("home").inert = Boolean(prompt || dark);
  if (dark) {
    at("off-text").textContent = word(pending.length ? "offPending" : "offText");
    at("switch-on").hidden = behaviour.auto !== "off";
  }
  if (prompt) drawPrompt(asking.length - 1);
  const odd = behaviour ? oddities(behaviour) : [];
  at("next").hidden = odd.length === 0;
  at("next").textContent = odd.length ? word("next", { what: odd.join(" · ") }) : "";
  at("drawer-open").classList.toggle("set", odd.length > 0);
  drawMessages(requests(state?.history));
  if (state) drawer.show({ ...state, history: requests(state.history) }, behaviour, prompt);
  if (arrived && document.hasFocus() && !at("drawer").contains(document.activeElement)) at("prompt").focus({ preventScroll: true });
  if (left && document.hasFocus() && document.activeElement === document.body) at("drawer-open").focus({ preventScroll: true });
  tick();
}

// What is read aloud when it changes is touched only when it does.
function tell(id, text) {
  if (at(id).textContent !== text) at(id).textContent = text;
}

function drawPrompt(more) {
  at("prompt-amount").textContent = money(prompt.amount);
  at("prompt-business").textContent = prompt.business;
  at("prompt-reference").textContent = prompt.accountReference;
  at("prompt-phone").textContent = spoken(prompt.phone) + (more > 0 ? ` · ${word("more", { n: more })}` : "");
  tell("typed", word("typed", { n: pin.length }));
  at("dots").querySelectorAll("i").forEach((dot, i) => dot.classList.toggle("on", i < pin.length));
  at("pin-send").disabled = pin.length !== 4 || sending || !online;
  at("pin-send").textContent = word(sending ? "sending" : "send");
  at("pin-cancel").disabled = sending || !online;
}

// The newest three results, as the messages that a phone would show.
function drawMessages(history) {
  const key = document.documentElement.lang + history.slice(0, 3).map((r) => r.id).join();
  if (key === known) return;
  const first = known === null;
  known = key;
  const lang = document.documentElement.lang;
  const before = new Map([...at("messages").children].map((e) => [e.dataset.id, e]));
  // A message that was read stays the element that it was, so that only the new one is read.
  const wanted = history.slice(0, 3).map((request) => {
    const old = before.get(request.id);
    if (old?.lang === lang) return old;
    const kind = kindOf(request);
    const text = element("div", { className: "message-text" },
      element("p", { className: "message-head" }, element("strong", {}, word(kind)), element("strong", {}, money(request.amount))));
    if (request.receipt) {
      text.append(element("p", { className: "receipt" },
        element("span", {}, word("receipt")), " ", element("b", { "data-testid": "receipt" }, request.receipt)));
    }
    text.append(element("p", { className: "message-words" }, sentence(request), " ",
      element("time", { dateTime: request.decided }, clock(Date.parse(request.decided)))));
    const message = element("li", { className: `message ${kind}`, "data-testid": "sms", "data-outcome": request.outcome }, mark(kind), text);
    message.dataset.id = request.id;
    message.lang = lang;
    if (!first && !old) message.classList.add("new");
    return message;
  });
  for (const old of before.values()) if (!wanted.includes(old)) old.remove();
  wanted.forEach((message, i) => at("messages").children[i] === message || at("messages").insertBefore(message, at("messages").children[i] ?? null));
}

const clock = (ms) => new Intl.DateTimeFormat("en-GB", { timeZone: "Africa/Nairobi", hour: "2-digit", minute: "2-digit" }).format(ms);

function tick() {
  const now = Date.now() + skew;
  const time = clock(now);
  at("bar-time").textContent = time;
  at("clock").textContent = time;
  at("date").textContent = new Intl.DateTimeFormat(locale(), { timeZone: "Africa/Nairobi", weekday: "long", day: "numeric", month: "long" }).format(now);
  const seconds = (r) => Math.max(0, Math.ceil((Date.parse(r.expires) - now) / 1000));
  if (prompt) {
    at("left").textContent = word("left", { n: seconds(prompt) });
    at("left").classList.toggle("soon", seconds(prompt) <= 10);
    const whole = Date.parse(prompt.expires) - Date.parse(prompt.shown);
    at("prompt").style.setProperty("--left", whole > 0 ? Math.max(0, Math.min(1, (Date.parse(prompt.expires) - now) / whole)).toFixed(3) : 0);
  }
  const left = (state?.prompts ?? []).find((r) => r.ignored && r.id !== looking && (!mine || r.phone === mine));
  at("unanswered").hidden = !left || !online || Boolean(prompt);
  if (left) {
    at("unanswered").textContent = word("unanswered", { n: seconds(left) });
    at("unanswered").dataset.id = left.id;
  }
  drawer.tick();
}

// Hands on the phone.

function type(digit) {
  if (!prompt || sending || pin.length === 4) return;
  pin += digit;
  draw();
}

function erase() {
  pin = pin.slice(0, -1);
  draw();
}

function makePad() {
  const key = (digit) => element("button", { type: "button", className: "key", "data-testid": `pin-${digit}`, "aria-label": word("key", { n: digit }), onclick: () => type(digit) }, digit);
  const eraser = element("button", { type: "button", className: "key erase", "data-testid": "pin-delete", "aria-label": word("erase"), onclick: erase }, "⌫");
  at("pad").replaceChildren(...[..."123456789"].map(key), element("span", {}), key("0"), eraser);
}

function openDrawer(open) {
  at("drawer").classList.toggle("open", open);
  at("drawer-open").setAttribute("aria-expanded", String(open));
  reachable();
  if (open) {
    at("drawer-body").scrollTop = 0;
    at("drawer").focus({ preventScroll: true });
  } else at("drawer-open").focus({ preventScroll: true });
}

// A closed drawer is out of reach of the keyboard; on a wide screen it is never closed.
function reachable() {
  at("drawer").inert = !wide.matches && !at("drawer").classList.contains("open");
  at("phone").inert = !wide.matches && at("drawer").classList.contains("open");
}

document.addEventListener("keydown", (e) => {
  if (e.ctrlKey || e.metaKey || e.altKey) return;
  if (at("drawer").contains(e.target)) {
    if (e.key === "Escape" && !wide.matches) openDrawer(false);
    return;
  }
  if (!prompt) return;
  const onButton = e.target instanceof HTMLButtonElement;
  if (/^[0-9]$/.test(e.key)) type(e.key);
  else if (e.key === "Backspace") erase();
  else if (e.key === "Enter" && !onButton && pin.length === 4) answer("approve", pin);
  else if (e.key === "Escape") answer("cancel");
  else return;
  e.preventDefault();
});

at("pin-send").addEventListener("click", () => answer("approve", pin));
at("pin-cancel").addEventListener("click", () => answer("cancel"));
at("drawer-open").addEventListener("click", () => openDrawer(true));
at("drawer-close").addEventListener("click", () => openDrawer(false));
at("switch-on").addEventListener("click", () => post("/phone/behaviour", { ...(mine && { phone: mine }), auto: "" }).catch(() => {}));
at("unanswered").addEventListener("click", () => { looking = at("unanswered").dataset.id; draw(); });
at("language").addEventListener("click", () => { switchLanguage(); speak(); draw(); });
wide.addEventListener("change", reachable);

function speak() {
  translate(document);
  at("language").textContent = word("otherLanguage");
  makePad();
  drawer.build();
}

speak();
reachable();
draw();
setInterval(tick, 500);
connect();
