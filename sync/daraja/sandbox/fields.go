package sandbox

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/hodihq/hodi/sync/daraja"
)

// fields are the members of a call's JSON object as text: Daraja takes strings and numbers alike.
type fields map[string]string

// readFields reads a call's body. Daraja looks for JSON only if the type says so, and otherwise misses the first field.
func readFields(w http.ResponseWriter, r *http.Request) (fields, *fault) {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return nil, invalid("BusinessShortCode").because("the Content-Type is not application/json, so that no field was found")
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 64<<10))
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "400.002.05", "Invalid Request Payload")
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(body, &members); err != nil {
		return nil, refuse(http.StatusBadRequest, "400.002.05", "Invalid Request Payload")
	}
	all := fields{}
	for name, raw := range members {
		switch {
		case raw[0] == '"':
			var text string
			if json.Unmarshal(raw, &text) == nil {
				all[name] = text
			}
		case raw[0] == '-' || raw[0] >= '0' && raw[0] <= '9':
			all[name] = string(raw)
		}
	}
	return all, nil
}

// merchant checks who is calling: the three fields that every call to STK has.
func (s *Sandbox) merchant(f fields) *fault {
	shortcode, timestamp := f["BusinessShortCode"], f["Timestamp"]
	if !digits(shortcode, 5, 7) {
		return invalid("BusinessShortCode")
	}
	if _, err := time.ParseInLocation("20060102150405", timestamp, daraja.Nairobi); err != nil || len(timestamp) != 14 {
		return invalid("Timestamp")
	}
	if f["Password"] == "" {
		return invalid("Password")
	}
	if shortcode != s.config.Shortcode {
		return refuse(http.StatusInternalServerError, "500.001.1001", "Merchant does not exist").
			because("this sandbox knows the shortcode " + s.config.Shortcode + " only")
	}
	if !same(f["Password"], base64.StdEncoding.EncodeToString([]byte(shortcode+s.config.Passkey+timestamp))) {
		return refuse(http.StatusInternalServerError, "500.001.1001", "Wrong credentials").
			because("the Password is not the base64 of shortcode, passkey and Timestamp, with the passkey of this sandbox")
	}
	return nil
}

// push is what a customer is asked for.
type push struct {
	phone, payee           string
	amount                 int64
	reference, description string
	callbackURL            string
}

// tooLong reports whether the prompt has more text than a SIM shows. Daraja accepts such a push and fails afterwards.
func (p push) tooLong() bool {
	return utf8.RuneCountInString(p.reference)+utf8.RuneCountInString(p.description)+len(p.payee)+len(strconv.FormatInt(p.amount, 10)) > 182
}

// readPush checks the rest of a push, field by field in the order of Daraja's sample.
func readPush(f fields) (p push, bad *fault) {
	switch f["TransactionType"] {
	case "CustomerPayBillOnline", "CustomerBuyGoodsOnline":
	default:
		return p, invalid("TransactionType")
	}
	var err error
	if p.amount, err = strconv.ParseInt(f["Amount"], 10, 64); err != nil || p.amount < 1 || p.amount > 250_000 || f["Amount"][0] == '+' {
		return p, invalid("Amount")
	}
	if !mobile(f["PartyA"]) {
		return p, invalid("PartyA")
	}
	if p.payee = f["PartyB"]; !digits(p.payee, 5, 7) {
		return p, invalid("PartyB")
	}
	if p.phone = f["PhoneNumber"]; !mobile(p.phone) {
		return p, invalid("PhoneNumber")
	}
	p.callbackURL = f["CallBackURL"]
	if bad := checkCallbackURL(p.callbackURL); bad != nil {
		return p, bad
	}
	if p.reference = f["AccountReference"]; strings.TrimSpace(p.reference) == "" {
		return p, invalid("AccountReference")
	}
	p.description = f["TransactionDesc"]
	return p, nil
}

// checkCallbackURL refuses what Daraja refuses: addresses that cannot be posted to, and words. Whether anybody answers there
// is not tried. Plain HTTP is let through, as in the real sandbox.
func checkCallbackURL(address string) *fault {
	u, err := url.Parse(address)
	switch {
	case err != nil, u.Scheme != "https" && u.Scheme != "http", u.Host == "", u.User != nil, strings.ContainsAny(address, " \t\r\n"):
		return invalid("CallBackURL")
	}
	lower := strings.ToLower(address)
	for _, word := range [...]string{"m-pesa", "mpesa", "safaricom", "exec", "exe", "cmd", "sql", "query"} {
		if strings.Contains(lower, word) {
			return refuse(http.StatusBadRequest, "400.003.02", "Bad Request - Invalid CallBackURL - URL has the word "+strings.ToUpper(word))
		}
	}
	return nil
}

// mobile tells a customer's number by country code and length: Safaricom opens new prefixes.
func mobile(s string) bool {
	return digits(s, 12, 12) && (strings.HasPrefix(s, "2547") || strings.HasPrefix(s, "2541"))
}

// digits reports whether the text is so many digits and nothing else.
func digits(s string, least, most int) bool {
	return len(s) >= least && len(s) <= most && strings.Trim(s, "0123456789") == ""
}
