// How money, times, numbers and receipts are written.

import { say } from "./words.js";

const nairobi = "Africa/Nairobi";
const nbsp = "\u00a0";

/** KES 1,234 or 1,234.50, without the currency. @param {number} amount */
export function money(amount) {
  const whole = Number.isInteger(amount);
  return new Intl.NumberFormat("en-KE", {
    minimumFractionDigits: whole ? 0 : 2, maximumFractionDigits: whole ? 0 : 2,
  }).format(amount);
}

/** 14:03 in Nairobi. @param {string|number} time */
export function clock(time, seconds = false) {
  return new Intl.DateTimeFormat("en-GB", {
    timeZone: nairobi, hourCycle: "h23", hour: "2-digit", minute: "2-digit", ...(seconds && { second: "2-digit" }),
  }).format(new Date(time));
}

/** 21 November. @param {string|number} time @param {"en"|"sw"} lang */
export function date(time, lang) {
  return new Intl.DateTimeFormat(lang === "sw" ? "sw" : "en-GB", { timeZone: nairobi, day: "numeric", month: "long" }).format(new Date(time));
}

/** Nairobi's day, as 2026-11-21. @param {string|number} time */
export function day(time) {
  // Kenya has kept UTC+3 all year round since 1960.
  return new Date(new Date(time).getTime() + 3 * 3600_000).toISOString().slice(0, 10);
}

/** The moment a day of Nairobi began, in ms. @param {string} name as day gives it */
export function midnight(name) {
  return Date.parse(`${name}T00:00:00+03:00`);
}

/** 12 s, 3 min, 2 h. @param {number} ms @param {"en"|"sw"} lang */
export function ago(ms, lang) {
  const s = Math.max(0, Math.round(ms / 1000));
  if (s < 120) return say(lang, "time.seconds", { n: s });
  if (s < 7200) return say(lang, "time.minutes", { n: Math.floor(s / 60) });
  return say(lang, "time.hours", { n: Math.floor(s / 3600) });
}

/** A phone number in the groups in which it is said. @param {string} number */
export function phone(number) {
  const digits = number.replace(/[\s-]/g, "");
  const local = /^(?:\+?254|0)(\d{3})(\d{3})(\d{3})$/.exec(digits);
  if (local) return `0${local[1]}${nbsp}${local[2]}${nbsp}${local[3]}`;
  const masked = /^254(\d{3})\*+(\d{3})$/.exec(digits);
  if (masked) return `0${masked[1]}${nbsp}•••${nbsp}${masked[2]}`;
  return number;
}

/** Whether it can be a Kenyan mobile number. @param {string} number */
export function isPhone(number) {
  return /^(?:\+?254|0)[1-9]\d{8}$/.test(number.replace(/[\s()-]/g, ""));
}

/** A receipt in groups that can be read aloud: SFF 6XY Z123. @param {string} receipt */
export function groups(receipt) {
  if (receipt.length !== 10) return receipt.match(/.{1,4}/gs) ?? [];
  return [receipt.slice(0, 3), receipt.slice(3, 6), receipt.slice(6)];
}

/** Shows a receipt: in groups for the eye, letter by letter for the ear; copied it is whole. */
export function showReceipt(element, receipt) {
  if (element.dataset.receipt === receipt) return;
  element.dataset.receipt = receipt;
  element.replaceChildren(...groups(receipt).map((text) => {
    const group = document.createElement("span");
    group.textContent = text;
    return group;
  }));
}

/** The ear's form of a receipt. @param {string} receipt */
export function spelled(receipt) {
  return [...receipt].join(" ");
}
