package sandbox

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hodihq/hodi/sync/daraja"
)

// An outcome is a way for a prompt to end. The words are those of the control routes.
type outcome string

const (
	approve      outcome = "approve"
	cancel       outcome = "cancel"
	ignore       outcome = "ignore" // the prompt stays until it lapses
	off          outcome = "off"    // the phone is switched off
	wrongPIN     outcome = "wrong_pin"
	insufficient outcome = "insufficient"
	expired      outcome = "expired" // the session lapsed while the PIN was typed
	limit        outcome = "limit"
	locked       outcome = "locked"     // the customer's PIN is locked
	odd          outcome = "odd"        // a code of letters, seen on one bad day in 2023: nobody knows what it means for the money
	pushError    outcome = "push_error" // the prompt could not be sent; only the sandbox itself decides so
)

// outcomes are those that can be asked for.
var outcomes = [...]outcome{approve, cancel, ignore, off, wrongPIN, insufficient, expired, limit, locked, odd}

// result is the code and the two texts: Daraja words the same end differently in a callback and in a query's answer.
func (o outcome) result() (code, callbackText, queryText string) {
	switch o {
	case approve:
		return "0", "The service request is processed successfully.", "The service request is processed successfully."
	case cancel:
		return "1032", "Request cancelled by user", "Request Cancelled by user."
	case ignore:
		return "1037", "No response from user.", "No response from user."
	case off:
		return "1037", "DS timeout user cannot be reached", "DS timeout user cannot be reached."
	case wrongPIN:
		return "2001", "The initiator information is invalid.", "The initiator information is invalid."
	case insufficient:
		return "1", "The balance is insufficient for the transaction.", "The balance is insufficient for the transaction."
	case expired:
		return "1019", "Transaction has expired", "Transaction has expired"
	case limit:
		return "17", "Rule limited.", "Rule limited."
	case locked:
		return "8006", "The security credential is locked.", "The security credential is locked."
	case pushError:
		return "1025", "Error Occurred while sending push request", "Error Occurred while sending push request"
	default:
		return "BW-JMS-100039", "There was an unexpected error while sending a message.", "There was an unexpected error while sending a message."
	}
}

// The ways of a callback.
const (
	callbackNormal      = "normal"
	callbackTwice       = "twice"        // and once more, a second later
	callbackLate        = "late"         // Behaviour.Late after the answer
	callbackBeforeAck   = "before_ack"   // the reply to the push is held back until the callback has gone out
	callbackNever       = "never"        // a query still tells the truth
	callbackNeverSilent = "never_silent" // and a query never tells anything
)

// The ways of the reply to a push.
const (
	ackNormal = "normal"
	ackLost   = "lost"  // the connection ends without a reply; the prompt goes out
	ackSlow   = "slow"  // Behaviour.Slow after the push
	ackError  = "error" // an internal error, HTTP 500; the prompt goes out all the same
	ackHTML   = "html"  // a firewall's page, HTTP 503; the request never got through, so there is no prompt
)

var (
	callbackWays = [...]string{callbackNormal, callbackTwice, callbackLate, callbackBeforeAck, callbackNever, callbackNeverSilent}
	ackWays      = [...]string{ackNormal, ackLost, ackSlow, ackError, ackHTML}
)

// Behaviour is what is set on a phone beforehand, for the requests that come next.
type Behaviour struct {
	Callback string  `json:"callback"`
	Ack      string  `json:"ack"`
	Auto     outcome `json:"auto"` // what the phone does by itself; "" leaves it to a person
	Late     Seconds `json:"late"` // default 40 s
	Slow     Seconds `json:"slow"` // default 15 s
	Once     bool    `json:"once"` // for the next request only
}

func (b Behaviour) withDefaults() Behaviour {
	if b.Callback == "" {
		b.Callback = callbackNormal
	}
	if b.Ack == "" {
		b.Ack = ackNormal
	}
	if b.Late == 0 {
		b.Late = Seconds(40 * time.Second)
	}
	if b.Slow == 0 {
		b.Slow = Seconds(15 * time.Second)
	}
	return b
}

// check finds words that mean nothing.
func (b Behaviour) check() error {
	switch {
	case !slices.Contains(callbackWays[:], b.Callback):
		return fmt.Errorf("callback %q is not one of %s", b.Callback, strings.Join(callbackWays[:], ", "))
	case !slices.Contains(ackWays[:], b.Ack):
		return fmt.Errorf("ack %q is not one of %s", b.Ack, strings.Join(ackWays[:], ", "))
	case b.Auto != "" && !slices.Contains(outcomes[:], b.Auto):
		return fmt.Errorf("auto %q is neither empty nor one of %s", b.Auto, outcomeList())
	case b.Late < 0 || b.Slow < 0:
		return fmt.Errorf("late and slow are not negative")
	}
	return nil
}

func outcomeList() string {
	var words []string
	for _, o := range outcomes {
		words = append(words, string(o))
	}
	return strings.Join(words, ", ")
}

// Seconds is a time span that is a number of seconds in JSON. It is also read from a string such as "40s" or "1m30s".
type Seconds time.Duration

// MarshalJSON writes a number.
func (s Seconds) MarshalJSON() ([]byte, error) {
	return strconv.AppendFloat(nil, time.Duration(s).Seconds(), 'f', -1, 64), nil
}

// UnmarshalJSON reads a number of seconds or a duration in words.
func (s *Seconds) UnmarshalJSON(b []byte) error {
	var number float64
	if err := json.Unmarshal(b, &number); err == nil {
		if number > 86400 || number < -86400 {
			return fmt.Errorf("%v seconds are more than a day", number)
		}
		*s = Seconds(number * float64(time.Second))
		return nil
	}
	var text string
	if err := json.Unmarshal(b, &text); err != nil {
		return fmt.Errorf("%s is not a number of seconds", b)
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		return fmt.Errorf("%q is not a time span such as 40s", text)
	}
	*s = Seconds(d)
	return nil
}

// behaviour is how a phone behaves now. s.mu is held.
func (s *Sandbox) behaviour(phone string) (Behaviour, error) {
	all, err := s.store.behaviours()
	if err != nil {
		return Behaviour{}, err
	}
	if b, ok := all[phone]; ok {
		return b, nil
	}
	return all[""], nil
}

// takeBehaviour is how a phone behaves towards a request that has just come. s.mu is held.
func (s *Sandbox) takeBehaviour(phone string) (Behaviour, error) {
	all, err := s.store.behaviours()
	if err != nil {
		return Behaviour{}, err
	}
	b, own := all[phone]
	if !own {
		phone, b = "", all[""]
	}
	if b.Once {
		if err := s.store.setBehaviour(phone, Behaviour{}.withDefaults()); err != nil {
			return Behaviour{}, err
		}
		s.log.Info("the phone is back to normal", "phone", daraja.MaskPhone(phone))
	}
	return b, nil
}
