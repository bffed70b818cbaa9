package daraja

// Outcome is what became of a payment, in one word.
type Outcome string

// The outcomes.
const (
	OutcomePaid              Outcome = "paid"
	OutcomeInsufficientFunds Outcome = "insufficient_funds"
	OutcomeCancelled         Outcome = "cancelled" // or left to lapse: M-Pesa gives one code to both
	OutcomeUnreachable       Outcome = "unreachable"
	OutcomeExpired           Outcome = "expired"
	OutcomeWrongPIN          Outcome = "wrong_pin"
	OutcomeBlocked           Outcome = "blocked" // the customer's PIN is locked
	OutcomeLimit             Outcome = "limit"
	OutcomeBusy              Outcome = "busy"
	OutcomeRejected          Outcome = "rejected"
	OutcomeUnknown           Outcome = "unknown"  // nobody can tell yet: neither paid nor failed
	OutcomeNotSent           Outcome = "not_sent" // Daraja could not be reached, so the customer was never prompted
	OutcomeDenied            Outcome = "denied"   // a person at the shop looked, and it was not paid
)

// OutcomeOf maps a result code. It never looks at the description: one code has up to five texts, and the text of one
// payment differs between callback and query. A code that is not known here is not a failure but unknown.
func OutcomeOf(resultCode string) Outcome {
	switch resultCode {
	case "0":
		return OutcomePaid
	case "1":
		return OutcomeInsufficientFunds
	case "1031", "1032":
		return OutcomeCancelled
	case "1036", "1037":
		return OutcomeUnreachable
	case "1019", "2026":
		return OutcomeExpired
	case "2001":
		return OutcomeWrongPIN
	case "8006":
		return OutcomeBlocked
	case "17":
		return OutcomeLimit
	case "26", "1001":
		return OutcomeBusy
	case "1025", "2006", "2028", "2032", "9999":
		return OutcomeRejected
	}
	return OutcomeUnknown
}

// Failed reports whether the outcome is a definite failure. What is unknown has not failed.
func (o Outcome) Failed() bool {
	switch o {
	case OutcomeInsufficientFunds, OutcomeCancelled, OutcomeUnreachable, OutcomeExpired, OutcomeWrongPIN, OutcomeBlocked,
		OutcomeLimit, OutcomeBusy, OutcomeRejected, OutcomeNotSent, OutcomeDenied:
		return true
	}
	return false
}

// Sentence is one plain sentence in two languages: what the cashier should know, and do.
type Sentence struct{ En, Sw string }

// Sentence says what the outcome means at the till. The customer may read it too.
func (o Outcome) Sentence() Sentence {
	switch o {
	case OutcomePaid:
		return Sentence{
			"M-Pesa has confirmed this payment.",
			"M-Pesa imethibitisha malipo haya.",
		}
	case OutcomeInsufficientFunds:
		return Sentence{
			"There is not enough money in the customer's M-Pesa; ask them to top up or to pay another way.",
			"Salio la M-Pesa la mteja halitoshi; mwombe aongeze pesa au alipe kwa njia nyingine.",
		}
	case OutcomeCancelled:
		return Sentence{
			"The request was cancelled on the phone or was left until it lapsed; ask the customer before sending it again.",
			"Ombi lilighairiwa kwenye simu au liliachwa hadi muda ukaisha; muulize mteja kabla ya kulituma tena.",
		}
	case OutcomeUnreachable:
		return Sentence{
			"The customer's phone did not answer: it may be off, without signal, or nobody saw the request; check the phone, then send it again.",
			"Simu ya mteja haikujibu: huenda imezimwa, haina mtandao, au ombi halikuonekana; angalia simu, kisha ulitume tena.",
		}
	case OutcomeExpired:
		return Sentence{
			"Time ran out before the request was approved; send it again when the customer has the phone in hand.",
			"Muda uliisha kabla ombi halijaidhinishwa; litume tena mteja akiwa na simu mkononi.",
		}
	case OutcomeWrongPIN:
		return Sentence{
			"The M-Pesa PIN that was entered is wrong; send the request again and ask the customer to enter the PIN with care.",
			"PIN ya M-Pesa iliyowekwa si sahihi; tuma ombi tena na umwombe mteja aiweke kwa makini.",
		}
	case OutcomeBlocked:
		return Sentence{
			"The customer's M-Pesa PIN is locked; they must ask Safaricom to unlock it, or pay another way.",
			"PIN ya M-Pesa ya mteja imefungwa; ni lazima awasiliane na Safaricom ili ifunguliwe, au alipe kwa njia nyingine.",
		}
	case OutcomeLimit:
		return Sentence{
			"An M-Pesa limit of the customer or of the shop was reached, or the same request came too soon; wait a few minutes or take payment another way.",
			"Kikomo cha M-Pesa cha mteja au cha duka kimefikiwa, au ombi lilirudiwa mapema mno; subiri dakika chache au pokea malipo kwa njia nyingine.",
		}
	case OutcomeBusy:
		return Sentence{
			"M-Pesa is busy, or the customer has another M-Pesa request open; have it closed, wait two minutes, then send this one again.",
			"M-Pesa ina shughuli nyingi, au mteja ana ombi lingine la M-Pesa lililo wazi; lifungwe, subiri dakika mbili, kisha utume hili tena.",
		}
	case OutcomeRejected:
		return Sentence{
			"M-Pesa did not accept the request; try once more, and if it is refused again, tell whoever looks after the shop's M-Pesa.",
			"M-Pesa haikukubali ombi hili; jaribu mara moja tena, na likikataliwa tena, mweleze anayesimamia M-Pesa ya duka.",
		}
	case OutcomeNotSent:
		return Sentence{
			"M-Pesa could not be reached, so nothing was sent to the customer; check the internet connection, then try again.",
			"Hatukuweza kuifikia M-Pesa, kwa hivyo mteja hakutumiwa ombi; angalia mtandao, kisha ujaribu tena.",
		}
	case OutcomeDenied:
		return Sentence{
			"The shop has looked for this payment and it was not made; it may be asked for again.",
			"Duka limeyatafuta malipo haya na hayakufanyika; yanaweza kuombwa tena.",
		}
	}
	return SentenceUnknownAsking()
}

// SentencePending is for a prompt that is on its way to the phone, or on it.
func SentencePending() Sentence {
	return Sentence{
		"Ask the customer to check the phone and enter the M-Pesa PIN.",
		"Mwombe mteja aangalie simu yake na aweke PIN ya M-Pesa.",
	}
}

// SentenceUnknownAsking is for a payment without a result whose ids are known, so that Daraja is being asked about it.
func SentenceUnknownAsking() Sentence {
	return Sentence{
		"It is not known yet whether this was paid: do not charge again; we are checking with M-Pesa.",
		"Bado haijulikani kama malipo haya yamefanyika: usitoze tena; tunathibitisha na M-Pesa.",
	}
}

// SentenceUnknownUnasked is for a payment without a result and without ids: nobody can ask Daraja about it, so the
// sentence promises nothing and says where a person can look.
func SentenceUnknownUnasked() Sentence {
	return Sentence{
		"It is not known whether this was paid: before charging again, look for the M-Pesa message on the customer's phone or for the payment on the shop's M-Pesa statement.",
		"Haijulikani kama malipo haya yamefanyika: kabla ya kutoza tena, tafuta ujumbe wa M-Pesa kwenye simu ya mteja au malipo hayo kwenye taarifa ya M-Pesa ya duka.",
	}
}

// SentenceConfirmed is for a payment that a person at the shop has found to be made, of which M-Pesa's own message has not
// come.
func SentenceConfirmed() Sentence {
	return Sentence{
		"The shop has found this payment on its M-Pesa statement and confirmed it by hand.",
		"Duka limeyapata malipo haya kwenye taarifa yake ya M-Pesa na limeyathibitisha lenyewe.",
	}
}

// SentenceDoubted is for a payment of which a message came that is not believed, and that Daraja is asked about.
func SentenceDoubted() Sentence {
	return Sentence{
		"A message about this payment came that may be false: do not rely on it and hand nothing over yet; we are checking with M-Pesa.",
		"Ujumbe kuhusu malipo haya umefika ambao huenda ni wa uongo: usiutegemee na usikabidhi chochote bado; tunathibitisha na M-Pesa.",
	}
}

// SentenceDoubtedUnasked is the same, where nobody can ask Daraja.
func SentenceDoubtedUnasked() Sentence {
	return Sentence{
		"A message about this payment came that may be false: hand nothing over before you have found the payment on the shop's M-Pesa statement.",
		"Ujumbe kuhusu malipo haya umefika ambao huenda ni wa uongo: usikabidhi chochote kabla ya kuyapata malipo kwenye taarifa ya M-Pesa ya duka.",
	}
}

// SentenceHeld is for a success that M-Pesa has told of, and that is large enough to be asked about before it counts.
func SentenceHeld() Sentence {
	return Sentence{
		"M-Pesa says that this was paid; because the amount is large we are asking M-Pesa once more: hand nothing over yet, and do not charge again.",
		"M-Pesa inasema haya yamelipwa; kwa kuwa kiasi ni kikubwa tunaiuliza M-Pesa mara moja tena: usikabidhi chochote bado, wala usitoze tena.",
	}
}

// SentenceHeldUnasked is the same, where nobody can ask Daraja.
func SentenceHeldUnasked() Sentence {
	return Sentence{
		"M-Pesa says that this was paid; because the amount is large, find it on the shop's M-Pesa statement before you hand anything over, and do not charge again.",
		"M-Pesa inasema haya yamelipwa; kwa kuwa kiasi ni kikubwa, yatafute kwenye taarifa ya M-Pesa ya duka kabla ya kukabidhi chochote, wala usitoze tena.",
	}
}

// SentencePaidTwice is for a payment that is made, and of which M-Pesa has told with two receipts.
func SentencePaidTwice() Sentence {
	return Sentence{
		"This is paid, and M-Pesa has told of it with two receipts: the customer may have paid twice; look at the shop's M-Pesa statement, and give back what is too much.",
		"Haya yamelipwa, na M-Pesa imetuma risiti mbili: huenda mteja amelipa mara mbili; angalia taarifa ya M-Pesa ya duka, na urudishe kilichozidi.",
	}
}
