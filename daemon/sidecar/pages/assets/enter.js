// How a device becomes a till: somebody was given a code, and types it here. The cookie that comes of it is nothing that a
// script can see; this page only learns that it has one.

import { ago } from "./format.js";

const at = (id) => document.getElementById(id);

/** A code as it was typed: in any case, with spaces or a hyphen. */
export function tidy(code) {
  return code.replace(/[\s-]/g, "").toUpperCase();
}

/**
 * The form. Words come from word(key, facts); onOpen is called once the device is let in.
 */
export class Entry {
  #word;
  #note = "";
  #facts = {};
  #ended = false;

  constructor(word, onOpen) {
    this.#word = word;
    at("enter-form").addEventListener("submit", async (event) => {
      event.preventDefault();
      if (at("enter-go").disabled) return;
      if (tidy(at("code").value).length !== 8) return this.#complain("enter.short");
      at("enter-go").disabled = true;
      const outcome = await ask(tidy(at("code").value));
      at("enter-go").disabled = false;
      if (outcome.key) return this.#complain(outcome.key, outcome.facts);
      at("code").value = "";
      this.#note = "";
      onOpen();
    });
    at("code").addEventListener("input", () => {
      if (this.#note === "enter.wait") return; // typing changes nothing about that
      this.#note = "";
      this.show();
    });
  }

  /** Asks for a code. Ended says that this device was a till until now. */
  open(ended) {
    if (!at("enter").hidden) return;
    this.#ended = ended;
    at("enter").hidden = false;
    this.show();
    at("code").focus();
  }

  close() {
    at("enter").hidden = true;
  }

  show() {
    put("enter-text", this.#word(this.#ended ? "enter.ended" : "enter.text"));
    put("enter-note", this.#note ? this.#word(this.#note, this.#facts) : "");
    at("enter-form").dataset.bad = this.#note ? "yes" : "";
    at("code").setAttribute("aria-invalid", String(Boolean(this.#note)));
  }

  #complain(key, facts = {}) {
    this.#note = key;
    this.#facts = { time: facts.seconds ? ago(facts.seconds * 1000, document.documentElement.lang) : "" };
    this.show();
    at("code").focus();
    at("code").select();
  }
}

function put(id, text) {
  if (at(id).textContent !== text) at(id).textContent = text;
}

async function ask(code) {
  try {
    const response = await fetch("/till/device", {
      method: "POST", signal: AbortSignal.timeout(10_000),
      headers: { "Content-Type": "application/json" }, body: JSON.stringify({ code }),
    });
    if (response.ok) return {};
    if (response.status === 429) return { key: "enter.wait", facts: { seconds: Number(response.headers.get("Retry-After")) || 600 } };
    return { key: response.status >= 500 ? "enter.offline" : "enter.wrong" };
  } catch {
    return { key: "enter.offline" };
  }
}
