package push

import (
	"encoding/json"
	"strconv"
)

// Append adds the message as JSON to b: byte for byte what json.Marshal makes of it, without reflection. A sidecar does this
// once for every event.
func (m *Message) Append(b []byte) []byte {
	b = appendString(append(b, `{"type":`...), m.Type)
	b = append(m.ID.append(append(b, `,"id":"`...)), '"')
	b = m.Time.append(append(b, `,"time":`...))
	b = appendString(append(b, `,"session":`...), m.Session)
	b = strconv.AppendBool(append(b, `,"final":`...), m.Final)
	b = strconv.AppendBool(append(b, `,"replay":`...), m.Replay)
	if m.Gap {
		b = append(b, `,"gap":true`...)
	}
	b = appendFact(b, `,"callback":`, m.Callback)
	b = m.Data.append(append(b, `,"data":`...))
	return append(b, '}')
}

func (d *Data) append(b []byte) []byte {
	b = appendString(append(b, `{"status":`...), string(d.Status))
	b = appendFact(b, `,"paymentId":`, d.PaymentID)
	b = appendFact(b, `,"merchantRequestId":`, d.MerchantRequestID)
	b = appendFact(b, `,"checkoutRequestId":`, d.CheckoutRequestID)
	if !d.Timestamp.IsZero() {
		b = d.Timestamp.append(append(b, `,"timestamp":`...))
	}
	if d.ResultCode != "" {
		b = d.ResultCode.append(append(b, `,"resultCode":`...))
	}
	b = appendFact(b, `,"resultDesc":`, d.ResultDesc)
	b = appendFact(b, `,"mpesaReceiptNumber":`, d.MpesaReceiptNumber)
	if !d.CompletedAt.IsZero() {
		b = d.CompletedAt.append(append(b, `,"completedAt":`...))
	}
	b = appendFact(b, `,"outcome":`, d.Outcome)
	b = appendFact(b, `,"reason":`, d.Reason)
	b = appendFact(b, `,"reasonSw":`, d.ReasonSw)
	if d.Amount != 0 {
		b = d.Amount.append(append(b, `,"amount":`...))
	}
	b = strconv.AppendBool(append(b, `,"amountChecked":`...), d.AmountChecked)
	b = appendFact(b, `,"accountReference":`, d.AccountReference)
	b = appendFact(b, `,"phoneNumber":`, d.PhoneNumber)
	b = appendFact(b, `,"shortcode":`, d.Shortcode)
	if d.Attempt != 0 {
		b = strconv.AppendInt(append(b, `,"attempt":`...), int64(d.Attempt), 10)
	}
	b = appendFact(b, `,"doubt":`, d.Doubt)
	return append(b, '}')
}

// appendFact adds a member, unless it is not known.
func appendFact(b []byte, name, value string) []byte {
	if value == "" {
		return b
	}
	return appendString(append(b, name...), value)
}

// appendString adds a JSON string. What json.Marshal would write in another way than it is, is rare, and left to it.
func appendString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			quoted, _ := json.Marshal(s) // no string cannot be written
			return append(b, quoted...)
		}
	}
	return append(append(append(b, '"'), s...), '"')
}

// append adds the text form.
func (c Cursor) append(b []byte) []byte {
	return appendHex(append(appendHex(b, c.Epoch, 12), '-'), c.Seq, 16)
}

// appendHex adds at least so many digits.
func appendHex(b []byte, n uint64, digits int) []byte {
	for least := uint64(1) << (4 * (digits - 1)); n < least; least >>= 4 {
		b = append(b, '0')
		if least == 1 {
			return b
		}
	}
	return strconv.AppendUint(b, n, 16)
}

func (t Time) append(b []byte) []byte {
	return append(t.UTC().AppendFormat(append(b, '"'), timeForm), '"')
}

// append adds a number with as many decimals as it needs.
func (m Money) append(b []byte) []byte {
	n := uint64(m)
	if m < 0 {
		b, n = append(b, '-'), -n
	}
	b = strconv.AppendUint(b, n/100, 10)
	if n %= 100; n > 0 {
		b = append(b, '.', byte('0'+n/10))
		if n %= 10; n > 0 {
			b = append(b, byte('0'+n))
		}
	}
	return b
}

// append adds a number if that loses nothing, else a string.
func (c ResultCode) append(b []byte) []byte {
	if n, err := strconv.ParseUint(string(c), 10, 32); err == nil && strconv.FormatUint(n, 10) == string(c) {
		return append(b, c...)
	}
	return appendString(b, string(c))
}
