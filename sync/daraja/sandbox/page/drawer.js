// The drawer: what the phone and the sandbox behind it should do next, and what they did.
import { has, word } from "./words.js";

const groups = {
  auto: ["", "approve", "cancel", "ignore", "off", "wrong_pin", "insufficient", "expired", "limit", "locked", "odd"],
  callback: ["normal", "twice", "late", "before_ack", "never", "never_silent"],
  ack: ["normal", "lost", "slow", "error", "html"],
};
const spans = { callback: { late: "late" }, ack: { slow: "slow" } }; // choices that take a number of seconds
const endings = ["wrong_pin", "insufficient", "ignore", "off"];

export function element(tag, properties = {}, ...children) {
  const e = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in e && name !== "list") e[name] = value;
    else e.setAttribute(name, value);
  }
  e.append(...children);
  return e;
}

// What is not normal, in a few words each; empty if all is.
export function oddities(behaviour) {
  const words = [];
  if (behaviour.auto !== "") words.push(word(`auto_${behaviour.auto}`));
  for (const group of ["callback", "ack"]) {
    const choice = behaviour[group];
    if (choice !== "normal") words.push(word(`short_${choice}`, { n: behaviour[spans[group][choice]] }));
  }
  return words;
}

// control: answer(outcome), behave(change), resend(id), now() in milliseconds.
export function makeDrawer(root, control) {
  const now = element("section", { className: "group" });
  const form = element("form", { className: "choices" });
  const past = element("section", { className: "group" });
  let latest = null;
  let pastTold = "";

  form.addEventListener("submit", (e) => e.preventDefault());
  form.addEventListener("change", () => control.behave(read()));

  function read() {
    const values = new FormData(form);
    const change = { once: values.has("once") };
    for (const group of Object.keys(groups)) change[group] = values.get(group) ?? groups[group][0];
    for (const name of ["late", "slow"]) {
      const n = Number(values.get(name));
      if (Number.isFinite(n) && n > 0) change[name] = Math.min(n, 3600);
    }
    return change;
  }

  function choice(group, value) {
    const id = `${group}-${value || "ask"}`;
    const row = element("label", { className: "choice" },
      element("input", { type: "radio", name: group, value, "data-testid": id }),
      element("span", { className: "choice-text" }, word(`${group}_${value}`)));
    const span = spans[group]?.[value];
    if (!span) return row;
    row.append(
      element("input", {
        className: "seconds", type: "number", name: span, min: "1", max: "3600", step: "1", inputMode: "numeric",
        "data-testid": `${span}-seconds`, "aria-label": word("secondsLabel"),
      }),
      element("span", { className: "unit" }, word("seconds")));
    return row;
  }

  // Built anew only when the language changes, so that nothing jumps under a finger.
  function build() {
    form.replaceChildren();
    for (const [group, values] of Object.entries(groups)) {
      form.append(element("fieldset", { className: "group" },
        element("legend", {}, word(group)),
        ...values.map((value) => choice(group, value))));
    }
    form.append(
      element("label", { className: "choice once" },
        element("input", { type: "checkbox", name: "once", "data-testid": "once" }),
        element("span", { className: "choice-text" }, word("once"))),
      element("button", {
        type: "button", className: "quiet reset", "data-testid": "behaviour-reset",
        onclick: () => control.behave({ callback: "normal", ack: "normal", auto: "", late: 40, slow: 15, once: false }),
      }, word("reset")));
    root.replaceChildren(now, form, past);
    pastTold = "";
    if (latest) show(latest.state, latest.behaviour, latest.prompt);
  }

  function show(state, behaviour, prompt) {
    latest = { state, behaviour, prompt };
    showNow(prompt);
    for (const group of Object.keys(groups)) {
      for (const input of form.querySelectorAll(`input[name="${group}"]`)) input.checked = input.value === behaviour[group];
    }
    for (const name of ["late", "slow"]) {
      const input = form.querySelector(`input[name="${name}"]`);
      if (document.activeElement !== input) input.value = behaviour[name];
    }
    form.querySelector('input[name="once"]').checked = behaviour.once;
    form.querySelector(".reset").disabled = oddities(behaviour).length === 0 && !behaviour.once;
    tick();
  }

  function showNow(prompt) {
    if (now.dataset.language !== document.documentElement.lang) {
      now.dataset.language = document.documentElement.lang;
      now.replaceChildren(
        element("h2", {}, word("now")),
        element("div", { className: "endings" }, ...endings.map((outcome) => element("button", {
          type: "button", className: "quiet", "data-testid": `answer-${outcome}`, onclick: () => control.answer(outcome),
        }, word(`do_${outcome}`)))));
    }
    for (const button of now.querySelectorAll("button")) button.disabled = !prompt;
  }

  // How the shop was told, as of now.
  function told(request) {
    const delivered = request.callbacks.filter((c) => c.state === "delivered").length;
    const last = request.callbacks.at(-1);
    if (!last) return word("told_none");
    if (last.state === "delivered" && delivered > 1) return word("told_twice", { n: delivered });
    const n = Math.max(0, Math.ceil((Date.parse(last.due) - control.now()) / 1000));
    return word(`told_${last.state}`, { n, status: last.status });
  }

  function tick() {
    if (!latest) return;
    const rows = latest.state.history.slice(0, 8).map((request) => ({ request, told: told(request) }));
    const key = JSON.stringify([document.documentElement.lang, rows.map((r) => [r.request.id, r.told])]);
    if (key === pastTold) return;
    pastTold = key;
    past.replaceChildren(element("h2", {}, word("history")));
    if (rows.length === 0) past.append(element("p", { className: "hint" }, word("historyNone")));
    past.append(element("ol", { className: "history" }, ...rows.map(({ request, told }) => {
      const kind = kindOf(request);
      const waiting = request.callbacks.some((c) => c.state === "waiting" || c.state === "sending");
      const row = element("li", { className: `event ${kind}`, "data-testid": "history-item" },
        mark(kind),
        element("div", { className: "event-text" },
          element("p", { className: "event-head" }, `${word(kind)} · ${money(request.amount)}`),
          element("p", { className: "event-told" }, `${request.resultCode} · ${told}`)));
      if (!waiting) {
        row.append(element("button", { type: "button", className: "small", "data-testid": "resend", onclick: () => control.resend(request.id) }, word("resend")));
      }
      return row;
    })));
  }

  build();
  return { build, show, tick };
}

export const money = (shillings) => `KES ${Number(shillings).toLocaleString("en-KE")}`;
export const kindOf = (request) => (request.outcome === "approve" ? "paid" : request.outcome === "odd" ? "unclear" : "unpaid");

// A shape for each kind, so that colour is never alone.
export function mark(kind) {
  const paths = { paid: "m7 12.5 3.5 3.5 7-8", unpaid: "m8 8 8 8M16 8l-8 8", unclear: "M12 7v6M12 16.5v.1" };
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("class", `mark ${kind}`);
  svg.setAttribute("aria-hidden", "true");
  const circle = document.createElementNS(svg.namespaceURI, "circle");
  for (const [name, value] of [["cx", 12], ["cy", 12], ["r", 11]]) circle.setAttribute(name, value);
  const path = document.createElementNS(svg.namespaceURI, "path");
  path.setAttribute("d", paths[kind]);
  svg.append(circle, path);
  return svg;
}

export const sentence = (request) => word(has(`sms_${request.outcome}`) ? `sms_${request.outcome}` : "sms_odd", { business: request.business, account: request.accountReference });
