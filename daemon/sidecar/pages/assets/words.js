// What the pages say, in English and in Swahili. Everything that a customer or a cashier reads comes from this table.
//
// The checkout speaks to the customer, so it has sentences of its own for what went wrong; the till prints the sentence
// that comes with the payment, which speaks to the cashier.

export const words = {
  en: {
    "lang.other": "Kiswahili",

    "ask.amount": "How much do you want to pay?",
    "ask.amount.label": "Amount in shillings",
    "ask.amount.bad": "Enter an amount in whole shillings, from 1 to 250,000.",
    "ask.next": "Continue",
    "ask.phone": "Which M-Pesa number pays?",
    "ask.phone.hint": "This phone will ask for your M-Pesa PIN.",
    "ask.phone.bad": "Enter a Kenyan number, for example 0712 345 678.",
    "ask.reference": "For",
    "ask.pay": "Pay KES {amount}",
    "ask.offline": "There is no connection right now. Press Pay again in a moment; you will not be charged twice.",
    "ask.enough": "Too many requests were sent and not paid. Wait an hour, use another number, or ask at the till.",
    "ask.refused": "The shop could not take this request. Try again, or ask at the till.",

    "sending.title": "Asking M-Pesa",
    "sending.text": "M-Pesa is about to ask for your PIN on {phone}.",

    "waiting.title": "Check your phone",
    "waiting.text": "Enter your M-Pesa PIN on {phone} to pay.",
    "waiting.text.nophone": "Enter your M-Pesa PIN on your phone to pay.",
    "waiting.sent": "Sent {time} ago. This page changes by itself.",
    "waiting.long": "This is taking longer than usual. If you have entered your PIN, do nothing more. If nothing is on the screen, check that the phone is on and has signal.",

    "paid.title": "Paid",
    "paid.receipt": "M-Pesa receipt",
    "paid.receipt.coming": "It is in the M-Pesa message on your phone.",
    "paid.time": "Paid at",
    "paid.more": "Make another payment",

    "failed.title": "Not paid",
    "failed.again": "Pay again",

    "unknown.title": "Do not pay again yet",
    "unknown.text": "We have not heard from M-Pesa whether you paid. We are checking, and this page changes by itself.",
    "unknown.unasked": "We cannot find out from M-Pesa whether you paid. Look for an M-Pesa message on your phone, or ask at the till, before you pay again.",
    "unknown.held": "No second request was sent: the first one is still open on this phone. If it asks for your PIN, enter it there. If not, wait two minutes before you try again.",
    "unknown.again": "Pay again",
    "confirm.title": "You may pay twice",
    "confirm.text": "If the first request was paid after all, paying again takes the money a second time. Look for an M-Pesa message on your phone first.",
    "confirm.wait": "Keep waiting",
    "confirm.pay": "I was not charged. Pay again",

    "blocked.title": "One request at a time",
    "blocked.text": "This phone already has an M-Pesa request open. Finish or cancel it there first.",
    "blocked.when": "You can try again in {time}.",
    "blocked.now": "You can try again now.",
    "blocked.again": "Try again",
    "blocked.other": "Use another number",

    "gone.title": "This checkout is closed",
    "gone.text": "The link has expired or was never valid. Ask the shop for a new one.",

    "loading.title": "One moment",
    "loading.text": "Asking the shop about this payment.",
    "loading.slow": "The shop does not answer yet. This page keeps trying by itself.",

    "link.offline": "You are offline. This page catches up by itself.",
    "link.stale": "Connection lost. Reconnecting by itself.",
    "sandbox": "Practice: no real money",
    "payee": "Pay with M-Pesa",
    "to.paybill": "Paybill {shortcode}",
    "to.till": "Till {shortcode}",

    // What went wrong, to the customer, by outcome.
    "why.insufficient_funds": "There is not enough money in this M-Pesa. Top up, or pay from another number.",
    "why.cancelled": "The request was cancelled, or was left until it ran out. You can pay again when you are ready.",
    "why.unreachable": "The phone did not answer. Check that it is on and has signal, then pay again.",
    "why.expired": "Time ran out before the PIN was entered. Have the phone in your hand, then pay again.",
    "why.wrong_pin": "The M-Pesa PIN was wrong. Pay again and enter it with care: after three wrong tries M-Pesa locks it.",
    "why.blocked": "This M-Pesa PIN is locked. Call Safaricom to unlock it, or pay from another number.",
    "why.limit": "An M-Pesa limit was reached, or the same request came too soon. Wait a few minutes, or pay another way.",
    "why.busy": "M-Pesa is busy, or this phone has another request open. Close it, wait two minutes, then pay again.",
    "why.rejected": "M-Pesa did not accept the request. Try once more, or ask at the till.",
    "why.not_sent": "M-Pesa could not be reached, so no request was sent. Pay again in a moment.",

    "enter.title": "Open the till on this device",
    "enter.text": "Type the code that you were given. It works once, and for ten minutes.",
    "enter.ended": "This device was signed out. To open the till again, type a new code.",
    "enter.label": "Code",
    "enter.go": "Open the till",
    "enter.short": "The code has eight letters and digits.",
    "enter.wrong": "This code does not work. It may be mistyped, used already, or older than ten minutes.",
    "enter.wait": "Too many wrong codes were tried. Wait {time}, then ask for a new one.",
    "enter.offline": "The shop's computer does not answer. Check the network, and try again.",

    "sale.title": "Ask for a payment",
    "sale.phone": "Customer's phone",
    "sale.amount": "Amount, KES",
    "sale.reference": "Reference",
    "sale.go": "Ask the customer",
    "sale.asking": "Asking",
    "sale.close": "Close",
    "sale.phone.bad": "This is not a Kenyan mobile number. Write it like 0712 345 678.",
    "sale.amount.bad": "The amount is whole shillings, from 1 to 250,000.",
    "sale.reference.none": "Write what the payment is for, such as a receipt's or a table's number.",
    "sale.reference.bad": "In the reference use letters, digits and spaces only, at most 12.",
    "sale.live": "This phone was asked just now. Wait until the customer has answered, at most {time}, then ask again.",
    "sale.limit": "This till has asked too often. Wait {time}, or ask at another till.",
    "sale.offline": "The shop's computer does not answer. Press again in a moment: the customer is not charged twice.",
    "sale.unready": "The shop's computer cannot ask M-Pesa yet. Tell whoever looks after it.",
    "sale.trouble": "The shop's computer has a problem, and the customer was not asked. Try again in a moment.",
    "sale.refused": "This could not be asked. Check what you wrote, and try again.",

    "till.title": "Till",
    "till.PENDING": "Waiting",
    "till.SUCCESS": "Paid",
    "till.FAILED": "Not paid",
    "till.UNKNOWN": "Not known",
    "till.unknown.do": "Do not charge again",
    "till.suspect.do": "Hand nothing over yet",
    "till.large.do": "Wait for M-Pesa",
    "till.paid_twice.do": "Paid twice?",
    "till.unknown.unasked": "We cannot check this one. Look for the M-Pesa message on the customer's phone, or for the payment on the statement.",
    "till.unknown.asking": "Nobody can say yet whether this was paid. We are checking with M-Pesa.",
    "till.pending.do": "Waiting for the customer's PIN",
    "till.unchecked": "M-Pesa did not confirm the amount",
    "till.empty": "No payments yet today",
    "till.empty.text": "The next one appears here by itself.",
    "till.loading": "Loading today's payments",
    "till.loadfailed": "Today's list could not be loaded. Trying again by itself.",
    "till.today": "Today",
    "till.total": "Received today",
    "till.count.one": "1 paid",
    "till.count": "{n} paid",
    "till.sandbox": "Practice money",
    "till.real": "Real money",
    "till.search": "Find a receipt",
    "till.search.none": "No payment with this receipt or reference today. Press Enter to look further back.",
    "till.search.nowhere": "No payment with this receipt.",
    "till.search.failed": "The search did not get through. Try again.",
    "till.more": "and {n} earlier today",
    "till.asof": "As of {time}",
    "gap.title": "Payments may be missing here",
    "gap.between": "M-Pesa's answers between {from} and {to} may not all have reached this shop.",
    "gap.until": "M-Pesa's answers before {to} may not all have reached this shop.",
    "gap.do": "Before you charge anybody of that time again, look for the payment on the M-Pesa statement.",
    "gap.seen": "Statement checked",
    "till.sound.on": "Sound on",
    "till.sound.off": "Sound off",
    "till.noreference": "No reference",
    "till.reference": "Reference",
    "till.phone": "Phone",
    "till.time": "Time",
    "fresh.live": "Live",
    "fresh.connecting": "Connecting",
    "fresh.stale": "Not live for {time}",
    "fresh.never": "Not connected, trying",
    "fresh.edge": "No word from the edge since {time}",
    "fresh.closed": "Not signed in",
    "fresh.closed.text": "This till may not see the shop's payments. Ask whoever looks after it.",

    "time.seconds": "{n} s",
    "time.minutes": "{n} min",
    "time.hours": "{n} h",
  },
  sw: {
    "lang.other": "English",

    "ask.amount": "Unataka kulipa kiasi gani?",
    "ask.amount.label": "Kiasi kwa shilingi",
    "ask.amount.bad": "Weka kiasi kwa shilingi kamili, kuanzia 1 hadi 250,000.",
    "ask.next": "Endelea",
    "ask.phone": "Namba gani ya M-Pesa italipa?",
    "ask.phone.hint": "Simu hii itakuomba PIN yako ya M-Pesa.",
    "ask.phone.bad": "Weka namba ya Kenya, kwa mfano 0712 345 678.",
    "ask.reference": "Kwa ajili ya",
    "ask.pay": "Lipa KES {amount}",
    "ask.offline": "Hakuna mtandao kwa sasa. Bonyeza Lipa tena baada ya muda mfupi; hutatozwa mara mbili.",
    "ask.enough": "Maombi mengi yametumwa bila kulipwa. Subiri saa moja, tumia namba nyingine, au uliza dukani.",
    "ask.refused": "Duka halikuweza kupokea ombi hili. Jaribu tena, au uliza dukani.",

    "sending.title": "Tunatuma ombi",
    "sending.text": "M-Pesa itakuomba PIN kwenye {phone}.",

    "waiting.title": "Angalia simu yako",
    "waiting.text": "Weka PIN yako ya M-Pesa kwenye {phone} ili kulipa.",
    "waiting.text.nophone": "Weka PIN yako ya M-Pesa kwenye simu yako ili kulipa.",
    "waiting.sent": "Lilitumwa {time} zilizopita. Ukurasa huu hubadilika wenyewe.",
    "waiting.long": "Inachukua muda kuliko kawaida. Kama umeweka PIN, usifanye lolote zaidi. Kama hakuna kitu kwenye simu, hakikisha imewashwa na ina mtandao.",

    "paid.title": "Imelipwa",
    "paid.receipt": "Risiti ya M-Pesa",
    "paid.receipt.coming": "Iko kwenye ujumbe wa M-Pesa kwenye simu yako.",
    "paid.time": "Ililipwa saa",
    "paid.more": "Fanya malipo mengine",

    "failed.title": "Haijalipwa",
    "failed.again": "Lipa tena",

    "unknown.title": "Usilipe tena kwa sasa",
    "unknown.text": "M-Pesa bado haijatuambia kama umelipa. Tunathibitisha, na ukurasa huu hubadilika wenyewe.",
    "unknown.unasked": "Hatuwezi kujua kutoka M-Pesa kama umelipa. Tafuta ujumbe wa M-Pesa kwenye simu yako, au uliza dukani, kabla ya kulipa tena.",
    "unknown.held": "Hakuna ombi la pili lililotumwa: la kwanza bado liko wazi kwenye simu hii. Likikuomba PIN, iweke hapo. Kama sivyo, subiri dakika mbili kabla ya kujaribu tena.",
    "unknown.again": "Lipa tena",
    "confirm.title": "Huenda ukalipa mara mbili",
    "confirm.text": "Kama ombi la kwanza lililipwa, kulipa tena kutachukua pesa mara ya pili. Kwanza tafuta ujumbe wa M-Pesa kwenye simu yako.",
    "confirm.wait": "Endelea kusubiri",
    "confirm.pay": "Sijatozwa. Lipa tena",

    "blocked.title": "Ombi moja kwa wakati",
    "blocked.text": "Simu hii tayari ina ombi la M-Pesa lililo wazi. Limalize au ulighairi kwanza.",
    "blocked.when": "Unaweza kujaribu tena baada ya {time}.",
    "blocked.now": "Unaweza kujaribu tena sasa.",
    "blocked.again": "Jaribu tena",
    "blocked.other": "Tumia namba nyingine",

    "gone.title": "Malipo haya yamefungwa",
    "gone.text": "Kiungo hiki kimeisha muda au si sahihi. Omba duka likupe kingine.",

    "loading.title": "Subiri kidogo",
    "loading.text": "Tunauliza duka kuhusu malipo haya.",
    "loading.slow": "Duka bado halijajibu. Ukurasa huu unaendelea kujaribu wenyewe.",

    "link.offline": "Huna mtandao. Ukurasa huu utajisasisha wenyewe.",
    "link.stale": "Mtandao umekatika. Tunaunganisha tena.",
    "sandbox": "Majaribio: hakuna pesa halisi",
    "payee": "Lipa na M-Pesa",
    "to.paybill": "Paybill {shortcode}",
    "to.till": "Till {shortcode}",

    "why.insufficient_funds": "Salio la M-Pesa hii halitoshi. Ongeza pesa, au lipa kwa namba nyingine.",
    "why.cancelled": "Ombi lilighairiwa au liliachwa hadi muda ukaisha. Unaweza kulipa tena ukiwa tayari.",
    "why.unreachable": "Simu haikujibu. Hakikisha imewashwa na ina mtandao, kisha ulipe tena.",
    "why.expired": "Muda uliisha kabla PIN haijawekwa. Shika simu mkononi, kisha ulipe tena.",
    "why.wrong_pin": "PIN ya M-Pesa haikuwa sahihi. Lipa tena na uiweke kwa makini: ukikosea mara tatu M-Pesa huifunga.",
    "why.blocked": "PIN hii ya M-Pesa imefungwa. Wasiliana na Safaricom ili ifunguliwe, au lipa kwa namba nyingine.",
    "why.limit": "Kikomo cha M-Pesa kimefikiwa, au ombi lilirudiwa mapema mno. Subiri dakika chache, au lipa kwa njia nyingine.",
    "why.busy": "M-Pesa ina shughuli nyingi, au simu hii ina ombi lingine lililo wazi. Lifunge, subiri dakika mbili, kisha ulipe tena.",
    "why.rejected": "M-Pesa haikukubali ombi hili. Jaribu mara moja tena, au uliza dukani.",
    "why.not_sent": "Hatukuweza kuifikia M-Pesa, kwa hivyo ombi halikutumwa. Lipa tena baada ya muda mfupi.",

    "enter.title": "Fungua kaunta kwenye kifaa hiki",
    "enter.text": "Andika msimbo uliopewa. Hutumika mara moja tu, ndani ya dakika kumi.",
    "enter.ended": "Kifaa hiki kimeondolewa. Ili kufungua kaunta tena, andika msimbo mpya.",
    "enter.label": "Msimbo",
    "enter.go": "Fungua kaunta",
    "enter.short": "Msimbo una herufi na tarakimu nane.",
    "enter.wrong": "Msimbo huu haufanyi kazi. Huenda una makosa, umeshatumika, au umepita dakika kumi.",
    "enter.wait": "Misimbo mingi isiyo sahihi imejaribiwa. Subiri {time}, kisha omba mwingine.",
    "enter.offline": "Kompyuta ya duka haijibu. Angalia mtandao, kisha jaribu tena.",

    "sale.title": "Omba malipo",
    "sale.phone": "Simu ya mteja",
    "sale.amount": "Kiasi, KES",
    "sale.reference": "Kumbukumbu",
    "sale.go": "Mwombe mteja",
    "sale.asking": "Tunaomba",
    "sale.close": "Funga",
    "sale.phone.bad": "Hii si namba ya simu ya Kenya. Andika kama 0712 345 678.",
    "sale.amount.bad": "Kiasi ni shilingi kamili, kuanzia 1 hadi 250,000.",
    "sale.reference.none": "Andika malipo ni ya nini, kama namba ya risiti au ya meza.",
    "sale.reference.bad": "Kwenye kumbukumbu tumia herufi, tarakimu na nafasi tu, zisizozidi 12.",
    "sale.live": "Simu hii imeombwa sasa hivi. Subiri mteja ajibu, si zaidi ya {time}, kisha uombe tena.",
    "sale.limit": "Kaunta hii imeomba mara nyingi mno. Subiri {time}, au uombe kwenye kaunta nyingine.",
    "sale.offline": "Kompyuta ya duka haijibu. Bonyeza tena baada ya muda mfupi: mteja hatatozwa mara mbili.",
    "sale.unready": "Kompyuta ya duka bado haiwezi kuuliza M-Pesa. Mwambie anayeisimamia.",
    "sale.trouble": "Kompyuta ya duka ina tatizo, na mteja hakuombwa. Jaribu tena baada ya muda mfupi.",
    "sale.refused": "Ombi hili halikuwezekana. Angalia ulichoandika, kisha jaribu tena.",

    "till.title": "Kaunta",
    "till.PENDING": "Inasubiri",
    "till.SUCCESS": "Imelipwa",
    "till.FAILED": "Haijalipwa",
    "till.UNKNOWN": "Haijulikani",
    "till.unknown.do": "Usitoze tena",
    "till.suspect.do": "Usikabidhi chochote bado",
    "till.large.do": "Subiri M-Pesa",
    "till.paid_twice.do": "Imelipwa mara mbili?",
    "till.unknown.unasked": "Hatuwezi kuthibitisha hili. Tafuta ujumbe wa M-Pesa kwenye simu ya mteja, au malipo kwenye taarifa ya akaunti.",
    "till.unknown.asking": "Bado haijulikani kama malipo haya yamefanyika. Tunathibitisha na M-Pesa.",
    "till.pending.do": "Tunasubiri PIN ya mteja",
    "till.unchecked": "M-Pesa haikuthibitisha kiasi",
    "till.empty": "Bado hakuna malipo leo",
    "till.empty.text": "Malipo yajayo yataonekana hapa yenyewe.",
    "till.loading": "Tunapakia malipo ya leo",
    "till.loadfailed": "Orodha ya leo haikupakiwa. Tunajaribu tena.",
    "till.today": "Leo",
    "till.total": "Zilizopokelewa leo",
    "till.count.one": "1 imelipwa",
    "till.count": "{n} zimelipwa",
    "till.sandbox": "Pesa za majaribio",
    "till.real": "Pesa halisi",
    "till.search": "Tafuta risiti",
    "till.search.none": "Hakuna malipo yenye risiti au kumbukumbu hii leo. Bonyeza Enter kutafuta siku za nyuma.",
    "till.search.nowhere": "Hakuna malipo yenye risiti hii.",
    "till.search.failed": "Utafutaji haukufaulu. Jaribu tena.",
    "till.more": "na {n} ya mapema leo",
    "till.asof": "Hali ya saa {time}",
    "gap.title": "Huenda baadhi ya malipo hayaonekani hapa",
    "gap.between": "Huenda baadhi ya majibu ya M-Pesa kati ya {from} na {to} hayakufika dukani.",
    "gap.until": "Huenda baadhi ya majibu ya M-Pesa kabla ya {to} hayakufika dukani.",
    "gap.do": "Kabla ya kumtoza tena mteja wa wakati huo, tafuta malipo yake kwenye taarifa ya M-Pesa.",
    "gap.seen": "Nimekagua taarifa",
    "till.sound.on": "Na sauti",
    "till.sound.off": "Bila sauti",
    "till.noreference": "Bila kumbukumbu",
    "till.reference": "Kumbukumbu",
    "till.phone": "Simu",
    "till.time": "Saa",
    "fresh.live": "Hewani",
    "fresh.connecting": "Tunaunganisha",
    "fresh.stale": "Haiko hewani: {time}",
    "fresh.never": "Haijaunganishwa, tunajaribu",
    "fresh.edge": "Hakuna habari kutoka mtandaoni tangu {time}",
    "fresh.closed": "Hairuhusiwi",
    "fresh.closed.text": "Kaunta hii haijasajiliwa dukani. Mwulize anayeisimamia.",

    "time.seconds": "sek {n}",
    "time.minutes": "dak {n}",
    "time.hours": "saa {n}",
  },
};

/**
 * The text of a key; {name} in it stands for a fact.
 * @param {"en"|"sw"} lang
 * @param {string} key
 * @param {Record<string, string|number>} [facts]
 */
export function say(lang, key, facts = {}) {
  const text = words[lang]?.[key] ?? words.en[key] ?? key;
  return whole(text.replace(/\{(\w+)\}/g, (_, name) => facts[name] ?? ""));
}

/** Keeps a name with a hyphen on one line. @param {string} text */
export function whole(text) {
  return text.replace(/M-Pesa/g, "M-\u2060Pesa");
}

/** The language that the reader chose, or that the browser asks for. @returns {"en"|"sw"} */
export function chosen() {
  try {
    const kept = localStorage.getItem("hodi.lang");
    if (kept === "en" || kept === "sw") return kept;
  } catch {
    // A browser may forbid storage; then the choice lasts as long as the page.
  }
  return (navigator.languages ?? [navigator.language]).some((l) => /^sw\b/i.test(l ?? "")) ? "sw" : "en";
}

/** @param {"en"|"sw"} lang */
export function choose(lang) {
  try {
    localStorage.setItem("hodi.lang", lang);
  } catch {
    // As above.
  }
}
