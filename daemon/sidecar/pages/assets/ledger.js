// The till's knowledge of its payments: what was listed and what arrived, merged.

import { day } from "./format.js";

const rank = { PENDING: 0, UNKNOWN: 1, FAILED: 2, SUCCESS: 3 };

/**
 * @typedef {object} Entry
 * @property {import("../../../../client/web/client.js").Data} data
 * @property {number} at when it last changed, in ms
 * @property {number} heard counts up with each live message about it; 0: only ever listed
 */

/** Ledger keeps every payment once. The order in which it is told of them does not matter: a status only ever rises. */
export class Ledger {
  /** @param {(data: object) => string} environmentOf "sandbox", "production", or "" where nobody knows */
  constructor(environmentOf = (data) => data.environment ?? "") {
    this.environmentOf = environmentOf;
    /** @type {Map<string, Entry>} */ this.entries = new Map();
    this.messages = 0;
  }

  /** Takes a live message. @returns {Entry|undefined} the entry, if the message changed it */
  hear(message) {
    return this.#put(message.data, Date.parse(message.time) || Date.now(), ++this.messages);
  }

  /**
   * Takes a listed payment. What was heard of it since the list was asked for is newer than the list.
   * @param {number} since this.messages when the list was asked for
   */
  list(data, since) {
    const known = this.entries.get(data.paymentId);
    if (known && known.heard > since) return undefined;
    return this.#put(data, Date.parse(data.completedAt ?? data.timestamp) || 0, known?.heard ?? 0);
  }

  #put(data, at, heard) {
    if (!data?.paymentId) return undefined;
    const known = this.entries.get(data.paymentId);
    if (known && rank[data.status] < rank[known.data.status]) return undefined;
    const entry = { data: { ...known?.data, ...data }, at: Math.max(at, known?.at ?? 0), heard };
    this.entries.set(data.paymentId, entry);
    return entry;
  }

  /** The payment that changed last. @returns {Entry|undefined} */
  get newest() {
    let newest;
    for (const entry of this.entries.values()) {
      if (!newest || entry.at > newest.at || (entry.at === newest.at && began(entry) > began(newest))) newest = entry;
    }
    return newest;
  }

  /** The payments of a Nairobi day, the newest first. @param {string} name */
  of(name) {
    return [...this.entries.values()].filter((e) => dayOf(e) === name).sort((a, b) => began(b) - began(a));
  }

  /** What was received on a day: paid only, each number to itself, and never real money and practice money together. */
  totals(name) {
    const sums = new Map();
    for (const entry of this.of(name)) {
      const shortcode = entry.data.shortcode ?? "", environment = this.environmentOf(entry.data);
      const key = `${environment} ${shortcode}`;
      const sum = sums.get(key) ?? { key, shortcode, environment, cents: 0, count: 0 };
      if (entry.data.status === "SUCCESS") {
        sum.cents += Math.round((entry.data.amount ?? 0) * 100);
        sum.count++;
      }
      sums.set(key, sum);
    }
    return [...sums.values()].sort((a, b) => (a.key < b.key ? -1 : 1));
  }

  /** Forgets what is of no use to a till that runs for years. @param {string} today */
  forget(today) {
    const newest = this.newest;
    for (const [id, entry] of this.entries) {
      if (entry !== newest && dayOf(entry) < today && entry.data.status !== "PENDING") this.entries.delete(id);
    }
  }
}

// Money is of the day on which M-Pesa moved it; whatever has not moved is of the day it was asked for.
function dayOf({ data, at }) {
  return day((data.status === "SUCCESS" && data.completedAt) || data.timestamp || at);
}

function began({ data, at }) {
  return Date.parse(data.timestamp) || at;
}
