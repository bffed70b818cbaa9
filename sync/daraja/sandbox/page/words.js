// The phone's words, English and Swahili side by side. {name} is filled in.
const table = {
  title: ["Pretend phone", "Simu ya mfano"],
  otherLanguage: ["Kiswahili", "English"],
  connecting: ["Switching on", "Inawaka"],
  waiting: ["Waiting for a payment request", "Inasubiri ombi la malipo"],
  coming: ["A request is on its way", "Ombi liko njiani"],
  offline: ["No network: the sandbox does not answer. Trying again", "Hakuna mtandao: mfumo haujibu. Inajaribu tena"],
  messages: ["Messages", "Ujumbe"],

  request: ["Payment request", "Ombi la malipo"],
  to: ["to", "kwa"],
  account: ["Account", "Akaunti"],
  number: ["This phone", "Simu hii"],
  left: ["{n} s left", "Sekunde {n}"],
  more: ["{n} more waiting", "Mengine {n} yanasubiri"],
  pin: ["Any PIN; 0000 is wrong", "PIN yoyote; 0000 si sahihi"],
  typed: ["{n} of 4 digits entered", "Tarakimu {n} kati ya 4"],
  key: ["Digit {n}", "Tarakimu {n}"],
  erase: ["Delete", "Futa"],
  cancel: ["Cancel", "Ghairi"],
  send: ["Send", "Tuma"],
  sending: ["Sending", "Inatuma"],
  unanswered: ["Left unanswered, {n} s left. Show it", "Limeachwa, sekunde {n}. Lionyeshe"],
  gone: ["This request has ended.", "Ombi hili limekwisha."],
  unreachable: ["The sandbox does not answer. Try once more.", "Mfumo haujibu. Jaribu tena."],

  offTitle: ["This phone is switched off", "Simu hii imezimwa"],
  offText: ["A request to it fails after a while.", "Ombi kwake litashindwa baada ya muda."],
  offPending: ["A request cannot reach it and will fail by itself.", "Kuna ombi lisiloifikia; litashindwa lenyewe."],
  switchOn: ["Switch it on", "Iwashe"],

  paid: ["Paid", "Imelipwa"],
  unpaid: ["Not paid", "Haijalipwa"],
  unclear: ["Unclear", "Haijulikani"],
  receipt: ["Receipt", "Risiti"],
  sms_approve: ["Confirmed. Paid to {business}, account {account}. Play money: none has moved.", "Imethibitishwa. Umelipa {business}, akaunti {account}. Pesa ya mfano: hakuna iliyohama."],
  sms_cancel: ["You cancelled the request from {business}.", "Umeghairi ombi la {business}."],
  sms_ignore: ["The request from {business} got no answer and lapsed.", "Ombi la {business} halikujibiwa na muda wake ukaisha."],
  sms_off: ["This phone was off when {business} sent a request.", "Simu hii ilikuwa imezimwa {business} ilipotuma ombi."],
  sms_wrong_pin: ["The PIN for {business} was wrong.", "PIN ya {business} haikuwa sahihi."],
  sms_insufficient: ["There is not enough money to pay {business}.", "Salio halitoshi kulipa {business}."],
  sms_expired: ["The request from {business} ran out of time.", "Muda wa ombi la {business} umeisha."],
  sms_limit: ["Paying {business} would pass a limit of this account.", "Malipo kwa {business} yangepita kikomo cha akaunti hii."],
  sms_locked: ["The PIN of this phone is locked.", "PIN ya simu hii imefungwa."],
  sms_odd: ["Something went wrong on the way to {business}.", "Kuna hitilafu iliyotokea kuelekea {business}."],
  sms_push_error: ["The request from {business} had too much text to be shown.", "Ombi la {business} lilikuwa na maandishi mengi mno."],

  drawer: ["What should this phone do next?", "Simu hii ifanye nini baadaye?"],
  drawerShort: ["What should it do next?", "Ifanye nini baadaye?"],
  close: ["Close", "Funga"],
  now: ["The request on the screen", "Ombi lililo kwenye skrini"],
  do_wrong_pin: ["Wrong PIN", "PIN si sahihi"],
  do_insufficient: ["Too little money", "Salio halitoshi"],
  do_ignore: ["Leave it", "Iache"],
  do_off: ["Switch it off", "Zima simu"],

  auto: ["When a request comes, this phone", "Ombi likija, simu hii"],
  auto_: ["asks me", "iniulize"],
  auto_approve: ["approves by itself", "iidhinishe yenyewe"],
  auto_cancel: ["cancels", "ighairi"],
  auto_ignore: ["does not answer until time is up", "isijibu hadi muda uishe"],
  auto_off: ["is switched off", "iwe imezimwa"],
  auto_wrong_pin: ["sends a wrong PIN", "itume PIN isiyo sahihi"],
  auto_insufficient: ["has too little money", "ikose salio la kutosha"],
  auto_expired: ["is too slow: the session expires", "ichelewe: kipindi kiishe"],
  auto_limit: ["is over its limit", "ipite kikomo"],
  auto_locked: ["has a locked PIN", "PIN yake iwe imefungwa"],
  auto_odd: ["ends with a code nobody knows", "imalize kwa namba isiyojulikana"],

  callback: ["The result then reaches the shop", "Matokeo yafike dukani"],
  callback_normal: ["once, after a moment", "mara moja, baada ya muda mfupi"],
  callback_twice: ["twice", "mara mbili"],
  callback_late: ["late, after", "kwa kuchelewa, baada ya"],
  callback_before_ack: ["before the shop is told that the request was accepted", "kabla duka halijaambiwa kuwa ombi limekubaliwa"],
  callback_never: ["never, but asking helps", "kamwe, ila likiuliza litajibiwa"],
  callback_never_silent: ["never, and asking does not help", "kamwe, hata likiuliza"],

  ack: ["The shop's request is answered", "Ombi la duka lijibiwe"],
  ack_normal: ["at once", "mara moja"],
  ack_lost: ["not at all: the connection breaks", "lisijibiwe: muunganisho ukatike"],
  ack_slow: ["slowly, after", "polepole, baada ya"],
  ack_error: ["with an error, though the phone rings", "kwa hitilafu, ingawa simu italia"],
  ack_html: ["with a web page, and no phone rings", "kwa ukurasa wa wavuti, na simu isilie"],

  short_twice: ["result twice", "matokeo mara mbili"],
  short_late: ["result after {n}\u00a0s", "matokeo baada ya sekunde {n}"],
  short_before_ack: ["result before the reply", "matokeo kabla ya jibu"],
  short_never: ["no result", "hakuna matokeo"],
  short_never_silent: ["no result, ever", "hakuna matokeo kamwe"],
  short_lost: ["no reply to the shop", "duka halipati jibu"],
  short_slow: ["reply after {n}\u00a0s", "jibu baada ya sekunde {n}"],
  short_error: ["reply is an error", "jibu ni hitilafu"],
  short_html: ["reply is a web page", "jibu ni ukurasa wa wavuti"],

  seconds: ["s", "s"],
  secondsLabel: ["Seconds", "Sekunde"],
  once: ["Only for the next request", "Kwa ombi lijalo tu"],
  reset: ["Back to normal", "Rudisha kawaida"],
  next: ["Next: {what}", "Baadaye: {what}"],

  history: ["What happened", "Yaliyotokea"],
  historyNone: ["Nothing yet. Press Pay on a checkout page.", "Bado hakuna. Bonyeza Lipa kwenye ukurasa wa malipo."],
  told_none: ["The shop was not told", "Duka halikuambiwa"],
  told_waiting: ["The shop is told in {n} s", "Duka litaambiwa baada ya sekunde {n}"],
  told_sending: ["The shop is being told", "Duka linaambiwa"],
  told_delivered: ["The shop was told", "Duka limeambiwa"],
  told_twice: ["The shop was told {n} times", "Duka limeambiwa mara {n}"],
  told_refused: ["The shop's address answered {status}", "Anwani ya duka ilijibu {status}"],
  told_lost: ["The shop's address did not answer", "Anwani ya duka haikujibu"],
  resend: ["Resend", "Rudia"],
};

const kept = "hodi.phone.language";
let language = 0;
try {
  language = localStorage.getItem(kept) === "sw" ? 1 : 0;
} catch { /* a browser may keep nothing inside a frame */ }

export const locale = () => (language === 1 ? "sw-KE" : "en-GB");
export const has = (key) => key in table;

export function word(key, values = {}) {
  return table[key][language].replace(/\{(\w+)\}/g, (_, name) => String(values[name] ?? ""));
}

export function switchLanguage() {
  language = 1 - language;
  try {
    localStorage.setItem(kept, language === 1 ? "sw" : "en");
  } catch { /* as above */ }
}

// Puts words on everything in the page that names one.
export function translate(root) {
  document.documentElement.lang = language === 1 ? "sw" : "en";
  document.title = word("title");
  for (const e of root.querySelectorAll("[data-word]")) e.textContent = word(e.dataset.word);
  for (const e of root.querySelectorAll("[data-word-label]")) e.setAttribute("aria-label", word(e.dataset.wordLabel));
}
