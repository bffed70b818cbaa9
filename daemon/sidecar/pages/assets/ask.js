// How a cashier asks a customer for a payment: number, amount, reference. What becomes of it the till shows like any other
// payment; here only what kept it from being asked is said.

import { HodiError, initiate, newKey } from "/client.js";
import { ago, isPhone } from "./format.js";

const at = (id) => document.getElementById(id);

/** What is said where something was refused, by the kind of the refusal. The rest is by its status: see keyOf. */
const kinds = {
  "bad-phone": ["sale.phone.bad", "sale-phone"],
  "bad-amount": ["sale.amount.bad", "sale-amount"],
  "bad-reference": ["sale.reference.bad", "sale-reference"],
  "prompt-live": ["sale.live"],
  "till-limit": ["sale.limit"],
  "no-callback-address": ["sale.unready"],
};

/** The key of what to say of a refusal, and the field it is about. @param {{status: number, kind: string}} error */
export function keyOf({ status, kind }) {
  if (kinds[kind]) return kinds[kind];
  if (status === 0) return ["sale.offline"];
  if (status === 429) return ["sale.limit"];
  return [status >= 500 ? "sale.trouble" : "sale.refused"];
}

/** A number as people write amounts; 0 if it is none that can be asked for. @param {string} text */
export function sumOf(text) {
  const amount = Number(text.replace(/[,\s]/g, ""));
  return Number.isInteger(amount) && amount >= 1 && amount <= 250_000 ? amount : 0;
}

/** The form. Words come from word(key, facts); onRefused is called if this device is not let in any more. */
export class Sale {
  #word;
  #lang;
  #onRefused;
  #note = "";
  #facts = {};
  #press = { of: "", session: "", key: "" }; // that was not answered: to press again must be the same request

  constructor(word, lang, onRefused) {
    this.#word = word;
    this.#lang = lang;
    this.#onRefused = onRefused;
    at("sale-open").addEventListener("click", () => this.open());
    at("sale-close").addEventListener("click", () => at("sale").close());
    at("sale-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#ask();
    });
    for (const id of ["sale-phone", "sale-amount", "sale-reference"]) {
      at(id).addEventListener("input", () => {
        at(id).removeAttribute("aria-invalid");
        this.#note = "";
        this.show();
      });
    }
  }

  open() {
    if (!at("sale").open) at("sale").showModal();
    this.show();
    at("sale-phone").focus();
  }

  close() {
    if (at("sale").open) at("sale").close();
  }

  show() {
    const note = this.#note ? this.#word(this.#note, { ...this.#facts, ...(this.#facts.until && { time: ago(Math.max(this.#facts.until - Date.now(), 1000), this.#lang()) }) }) : "";
    if (at("sale-note").textContent !== note) at("sale-note").textContent = note;
    at("sale-form").dataset.bad = this.#note ? "yes" : "";
    const go = this.#word(at("sale-go").disabled ? "sale.asking" : "sale.go");
    if (at("sale-go").textContent !== go) at("sale-go").textContent = go;
  }

  async #ask() {
    if (at("sale-go").disabled) return;
    const phoneNumber = at("sale-phone").value.trim(), amount = sumOf(at("sale-amount").value), accountReference = at("sale-reference").value.trim();
    if (!isPhone(phoneNumber)) return this.#complain("sale.phone.bad", "sale-phone");
    if (!amount) return this.#complain("sale.amount.bad", "sale-amount");
    if (!accountReference) return this.#complain("sale.reference.none", "sale-reference");
    const of = JSON.stringify([phoneNumber, amount, accountReference]);
    if (this.#press.of !== of) this.#press = { of, session: "", key: newKey() };
    at("sale-go").disabled = true;
    this.#note = "";
    this.show();
    let refusal;
    try {
      this.#press.session ||= await begin({ amount, accountReference });
      await initiate(location.origin, this.#press.session, { phoneNumber, idempotencyKey: this.#press.key });
    } catch (error) {
      if (!(error instanceof HodiError)) throw error;
      refusal = error;
    } finally {
      at("sale-go").disabled = false;
    }
    if (!refusal) {
      this.#press = { of: "", session: "", key: "" };
      at("sale-form").reset();
      this.show();
      return this.close();
    }
    if (refusal.status === 401 || refusal.status === 403) {
      this.close();
      return this.#onRefused();
    }
    if ([404, 410, 422].includes(refusal.status)) this.#press = { of: "", session: "", key: "" }; // of yesterday
    const [key, field] = keyOf(refusal);
    this.#complain(key, field, refusal.retryAfter);
  }

  #complain(key, field, seconds) {
    this.#note = key;
    this.#facts = { until: Date.now() + (seconds ?? 30) * 1000 };
    if (field) {
      at(field).setAttribute("aria-invalid", "true");
      at(field).focus();
    }
    this.show();
  }
}

/** Opens a session for one sale. */
async function begin(terms) {
  let response, answer;
  try {
    response = await fetch("/sessions", {
      method: "POST", signal: AbortSignal.timeout(10_000),
      headers: { "Content-Type": "application/json" }, body: JSON.stringify(terms),
    });
    answer = await response.json().catch(() => undefined);
  } catch (error) {
    throw new HodiError(`hodi: no answer: ${error.message}`);
  }
  if (response.ok && answer?.id) return answer.id;
  throw new HodiError(answer?.detail ?? "hodi: no session", {
    status: response.status, kind: String(answer?.type ?? "").split(/[/:#]/).pop(),
    retryAfter: Number(response.headers.get("Retry-After")) || undefined,
  });
}
